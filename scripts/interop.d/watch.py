"""Looks at the lock's key on each server all the time: who has left keys there that only their end removes?"""

import re
import socket
import threading

from servers import now

EVERY_S = 0.02
PATIENCE_S = 0.5


class Watch:
    """From when to when which value was seen on which server."""

    def __init__(self, urls, key):
        self.over = threading.Event()
        self.seen = [{} for _ in urls]
        self.threads = [
            threading.Thread(target=self.looks, args=(url, key, seen)) for url, seen in zip(urls, self.seen)
        ]
        for thread in self.threads:
            thread.start()

    def looks(self, url, key, seen):
        while not self.over.is_set():
            try:
                with Server(url) as server:
                    while not self.over.wait(EVERY_S):
                        value = server.asks("GET", key)
                        if value is not None:
                            first, _ = seen.get(value, (now(), None))
                            seen[value] = (first, now())
            except OSError:
                # It is away. That is not what we look for.
                self.over.wait(EVERY_S)

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


class Server:
    """One connection, for questions one after the other."""

    def __init__(self, url):
        host, port = re.fullmatch(r"redis://([^:]+):(\d+)", url).groups()
        self.socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def asks(self, *words):
        """Bytes, a number, or None."""
        packed = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in (word.encode() for word in words))
        self.socket.sendall(b"*%d\r\n" % len(words) + packed)
        head = self.file.readline()
        if head.startswith(b":"):
            return int(head[1:])
        if not head.startswith(b"$"):
            raise OSError(f"not an answer: {head!r}")
        length = int(head[1:])
        return None if length < 0 else self.file.read(length + 2)[:-2]


def keys_left(urls, key):
    """What still stands when everybody has gone, as events of a history."""
    events = []
    for node, url in enumerate(urls):
        with Server(url) as server:
            ttl_ms = server.asks("PTTL", key)
        if ttl_ms != -2:
            left = {"node": node, "key": key, "ttl_ms": ttl_ms}
            events.append({"at": now(), "actor": "run", "kind": {"key_left": left}})
    return events
