"""The servers, and what is done to them meanwhile: never to more than a minority at a time."""

import os
import random
import subprocess
import threading
import time

COUNT = 5
# How long something is broken, in seconds: from less to more than the ttl.
LASTS = (0.2, 2.0)
# For our fenced clients, a server that was restarted is on probation so long.
LONGEST_TTL_S = 2
# From one fault to the next, so that there is a quorum in between for those who wait out a probation.
CALM_S = LONGEST_TTL_S + 1
# For everybody to meet, and to come to rest.
PEACE_S = 1.5
# What is done, in turn. All are a minority.
BOUTS = (["kill"], ["pause"], ["kill", "pause"])
EFFECTS = {"kill": "down", "pause": "paused"}
MENDED_BY = {"kill": "restart", "pause": "resume"}


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Servers:
    """Five of them, which go when this is closed, or we die. A restart keeps the data."""

    def __init__(self, program):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program, str(COUNT)], stdin=pipe, stdout=pipe, text=True)
        self.urls = self.hears().split(",")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def does(self, act, server):
        self.process.stdin.write(f"{act} {server}\n")
        self.process.stdin.flush()
        self.hears()

    def hears(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the servers are gone")
        return line.strip()


class Breaker(threading.Thread):
    """Breaks servers and mends them until shortly before the end, and remembers it as events of a history."""

    def __init__(self, servers, seconds, seed):
        super().__init__()
        self.servers, self.seconds, self.chance = servers, seconds, random.Random(seed)
        self.events, self.count, self.error = [], 0, None

    def run(self):
        try:
            self.breaks()
        except Exception as error:  # whatever it is, the one who waits for us is to raise it
            self.error = error

    def breaks(self):
        until = time.monotonic() + self.seconds - PEACE_S
        time.sleep(PEACE_S)
        bout = 0
        while True:
            acts, lasts = BOUTS[bout % len(BOUTS)], self.chance.uniform(*LASTS)
            if time.monotonic() + lasts + CALM_S > until:
                return
            broken = []
            for act, server in zip(acts, self.chance.sample(range(COUNT), len(acts))):
                fault = {"id": self.count, "kind": act, "nodes": [server], "effects": [EFFECTS[act]]}
                broken.append((self.count, act, server))
                self.count += 1
                # Told before it is done, and healed after that.
                self.tells({"fault": fault})
                self.servers.does(act, server)
            time.sleep(lasts)
            for fault, act, server in broken:
                self.servers.does(MENDED_BY[act], server)
                self.tells({"fault_ended": {"fault": fault}})
            bout += 1
            time.sleep(CALM_S)

    def tells(self, what):
        self.events.append({"at": now(), "actor": "run", "kind": what})

    def end(self):
        self.join()
        if self.error:
            raise self.error


def environment(urls):
    """What our command is to know, and nothing that was meant for other nodes."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("QUORLOCK_")}
    return env | {"QUORLOCK_NODES": ",".join(urls), "QUORLOCK_MAX_TTL": f"{LONGEST_TTL_S}s"}
