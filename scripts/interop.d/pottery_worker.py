"""pottery: acquires and releases one lock in a loop, and writes each step as an event of the history."""

import json
import os
import random
import time

from pottery import PotteryError, Redlock, ReleaseUnlockedLock
from redis import Redis, RedisError

env = os.environ
ttl_ms = int(env["TTL_MS"])
attempt = 0


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def write_event(kind):
    actor = {"client": {"process": int(env["PROCESS"]), "task": 0, "attempt": attempt}}
    print(json.dumps({"at": now(), "actor": actor, "kind": kind}), flush=True)


def release(lock):
    try:
        lock.release()
    except ReleaseUnlockedLock:
        return False
    return True


masters = {Redis.from_url(url) for url in env["NODES"].split(",")}
# pottery adds the prefix "redlock:" to the name.
name = env["LOCK"].removeprefix("redlock:")
until = now() + int(float(env["SECONDS"]) * 1e9)
while now() < until:
    attempt += 1
    lock = Redlock(key=name, masters=masters, auto_release_time=ttl_ms / 1000)
    write_event({"waiting": {"keys": [env["LOCK"]], "kind": "mutex", "ttl_ms": ttl_ms, "wait_ms": 1000}})
    start = now()
    try:
        if lock.acquire(blocking=False):
            deadline = start + ttl_ms * 990_000 - 2_000_000
            write_event({"granted": {"deadline": deadline, "fencing_number": None, "nonce": None, "spare_nodes": 0}})
            time.sleep(random.random() * 0.03)
            write_event("releasing")
            write_event({"released": {"confirmed": release(lock)}})
        else:
            write_event({"failed": {"reason": "contended"}})
    except (PotteryError, RedisError) as error:
        write_event({"unexpected_error": {"message": repr(error)}})
    time.sleep(random.random() * 0.04)
write_event("finished")
