"""Polls the lock's key on each server, to find keys that a client left there to expire."""

import re
import socket
import threading

from servers import now

INTERVAL_S = 0.02
TIMEOUT_S = 0.5


class Watch:
    """Records, for each server, the values of the key and the first and last time that each was seen."""

    def __init__(self, urls, key):
        self.stopped = threading.Event()
        self.seen = [{} for _ in urls]
        self.threads = [
            threading.Thread(target=self.poll, args=(url, key, seen)) for url, seen in zip(urls, self.seen)
        ]
        for thread in self.threads:
            thread.start()

    def poll(self, url, key, seen):
        while not self.stopped.is_set():
            try:
                with Connection(url) as server:
                    while not self.stopped.wait(INTERVAL_S):
                        value = server.request("GET", key)
                        if value is not None:
                            first, _ = seen.get(value, (now(), None))
                            seen[value] = (first, now())
            except OSError:
                # The server is down or paused: try again.
                self.stopped.wait(INTERVAL_S)

    def end(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


class Connection:
    """A connection to a server, for one request at a time."""

    def __init__(self, url):
        host, port = re.fullmatch(r"redis://([^:]+):(\d+)", url).groups()
        self.socket = socket.create_connection((host, int(port)), TIMEOUT_S)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def request(self, *args):
        """Returns bytes, a number, or None."""
        encoded = b"".join(b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in (arg.encode() for arg in args))
        self.socket.sendall(b"*%d\r\n" % len(args) + encoded)
        head = self.file.readline()
        if head.startswith(b":"):
            return int(head[1:])
        if not head.startswith(b"$"):
            raise OSError(f"unexpected reply: {head!r}")
        length = int(head[1:])
        return None if length < 0 else self.file.read(length + 2)[:-2]


def keys_left(urls, key):
    """The keys that exist after all clients have ended, as events of the history."""
    events = []
    for node, url in enumerate(urls):
        with Connection(url) as server:
            ttl_ms = server.request("PTTL", key)
        if ttl_ms != -2:
            left = {"node": node, "key": key, "ttl_ms": ttl_ms}
            events.append({"at": now(), "actor": "run", "kind": {"key_left": left}})
    return events
