"""The worker for pottery: it executes requests, one per line. The requests are listed in benches/runner/src/worker.rs."""

import sys
import threading
import time

from pottery import Redlock
from redis import Redis

_, name, _, urls = sys.argv[1:]
TTL = 10
PREFIX = f"bench:{name.replace(' ', '-')}:"
# The default waits up to 0.2 s before a retry, although the lock is free within a millisecond.
Redlock._RETRY_DELAY = 0.001
masters = {Redis.from_url(url) for url in urls.split(",")}


def lock_of(key):
    return Redlock(key=key, masters=masters, auto_release_time=TTL)


def sequence(ops):
    timings = []
    for _ in range(ops):
        lock = lock_of(PREFIX + "one")
        begin = time.perf_counter()
        if not lock.acquire():
            raise RuntimeError("not acquired")
        acquired = time.perf_counter()
        lock.release()
        timings += [(acquired - begin) * 1e6, (time.perf_counter() - acquired) * 1e6]
    return timings


def throughput(tasks, millis):
    begin, cpu = time.perf_counter(), time.process_time()
    done = [0] * tasks

    def task(number):
        while time.perf_counter() - begin < millis / 1000:
            lock = lock_of(f"{PREFIX}own:{number}")
            if lock.acquire():
                lock.release()
                done[number] += 1

    threads = [threading.Thread(target=task, args=(number,)) for number in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [sum(done), time.perf_counter() - begin, time.process_time() - cpu]


def execute(request, numbers):
    if request == "untimed":
        sequence(*numbers)
        return []
    if request == "sequence":
        return sequence(*numbers)
    if request == "throughput":
        return throughput(*numbers)
    raise ValueError(f"unknown request {request}")


print("ok", flush=True)
for line in sys.stdin:
    request, *numbers = line.split()
    try:
        print("ok", *execute(request, [int(number) for number in numbers]), flush=True)
    except Exception as error:
        print("error", repr(error).replace("\n", " "), flush=True)
