"""pottery as a worker: it executes requests, one per line. The requests are listed in benches/runner/src/worker.rs."""

import sys
import threading
import time

from pottery import Redlock
from redis import Redis

_, name, _, urls = sys.argv[1:]
TTL = 10
PREFIX = f"bench:{name.replace(' ', '-')}:"
# A wait of up to 0.2 s is no setting for a lock that is free in a millisecond.
Redlock._RETRY_DELAY = 0.001
masters = {Redis.from_url(url) for url in urls.split(",")}


def lock_of(key):
    return Redlock(key=key, masters=masters, auto_release_time=TTL)


def sequence(ops):
    figures = []
    for _ in range(ops):
        lock = lock_of(PREFIX + "one")
        begin = time.perf_counter()
        if not lock.acquire():
            raise RuntimeError("not taken")
        acquired = time.perf_counter()
        lock.release()
        figures += [(acquired - begin) * 1e6, (time.perf_counter() - acquired) * 1e6]
    return figures


def rush(tasks, millis):
    begin, cpu = time.perf_counter(), time.process_time()
    done = [0] * tasks

    def task(place):
        while time.perf_counter() - begin < millis / 1000:
            lock = lock_of(f"{PREFIX}own:{place}")
            if lock.acquire():
                lock.release()
                done[place] += 1

    threads = [threading.Thread(target=task, args=(place,)) for place in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [sum(done), time.perf_counter() - begin, time.process_time() - cpu]


def carry_out(what, numbers):
    if what == "work":
        sequence(*numbers)
        return []
    if what == "sequence":
        return sequence(*numbers)
    if what == "rush":
        return rush(*numbers)
    raise ValueError(f"unknown request {what}")


print("ok", flush=True)
for line in sys.stdin:
    what, *numbers = line.split()
    try:
        print("ok", *carry_out(what, [int(number) for number in numbers]), flush=True)
    except Exception as error:
        print("error", repr(error).replace("\n", " "), flush=True)
