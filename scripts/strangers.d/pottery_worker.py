"""pottery: takes and frees one lock again and again, and tells each step as a line of history."""

import json
import os
import random
import time

from pottery import PotteryError, Redlock, ReleaseUnlockedLock
from redis import Redis, RedisError

env = os.environ
ttl_ms = int(env["TTL_MS"])
turn = 0


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def tell(what):
    who = {"client": {"process": int(env["PROCESS"]), "task": 0, "attempt": turn}}
    print(json.dumps({"at": now(), "actor": who, "kind": what}), flush=True)


def frees(lock):
    try:
        lock.release()
    except ReleaseUnlockedLock:
        return False
    return True


masters = {Redis.from_url(url) for url in env["NODES"].split(",")}
# It puts "redlock:" before the name.
name = env["LOCK"].removeprefix("redlock:")
until = now() + int(float(env["SECONDS"]) * 1e9)
while now() < until:
    turn += 1
    lock = Redlock(key=name, masters=masters, auto_release_time=ttl_ms / 1000)
    tell({"waiting": {"keys": [env["LOCK"]], "kind": "mutex", "ttl_ms": ttl_ms, "wait_ms": 1000}})
    start = now()
    try:
        if lock.acquire(blocking=False):
            deadline = start + ttl_ms * 990_000 - 2_000_000
            tell({"granted": {"deadline": deadline, "number": None, "nonce": None, "margin": 0}})
            time.sleep(random.random() * 0.03)
            tell("releasing")
            tell({"released": {"confirmed": frees(lock)}})
        else:
            tell({"refused": {"why": "contended"}})
    except (PotteryError, RedisError) as error:
        tell({"errored": {"words": repr(error)}})
    time.sleep(random.random() * 0.04)
tell("finished")
