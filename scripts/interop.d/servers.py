"""The servers, and the faults injected into them: never into more than a minority at a time."""

import os
import random
import subprocess
import threading
import time

COUNT = 5
# Shortest and longest fault, in seconds: from less to more than the ttl.
FAULT_S = (0.2, 2.0)
# A restarted server is on probation for this long, for fenced quorlock clients.
MAX_TTL_S = 2
# Time between two faults, so that a quorum is past its probation in between.
RECOVERY_S = MAX_TTL_S + 1
# Time without faults at the start, for all clients to connect, and at the end.
QUIET_S = 1.5
# The faults of each step, in rotation. Each step affects a minority.
FAULT_STEPS = (["kill"], ["pause"], ["kill", "pause"])
EFFECTS = {"kill": "down", "pause": "paused"}
REPAIRS = {"kill": "restart", "pause": "resume"}


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Servers:
    """Five servers, which end when this is closed or the process exits. A restart keeps the data."""

    def __init__(self, program):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program, str(COUNT)], stdin=pipe, stdout=pipe, text=True)
        self.urls = self.read_line().split(",")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def execute(self, action, server):
        self.process.stdin.write(f"{action} {server}\n")
        self.process.stdin.flush()
        self.read_line()

    def read_line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the servers have exited")
        return line.strip()


class FaultInjector(threading.Thread):
    """Injects and repairs faults until shortly before the end, and records them as events of the history."""

    def __init__(self, servers, seconds, seed):
        super().__init__()
        self.servers, self.seconds, self.rng = servers, seconds, random.Random(seed)
        self.events, self.count, self.error = [], 0, None

    def run(self):
        try:
            self.inject_faults()
        except Exception as error:  # `end` raises it in the thread that waits
            self.error = error

    def inject_faults(self):
        until = time.monotonic() + self.seconds - QUIET_S
        time.sleep(QUIET_S)
        step = 0
        while True:
            actions, duration = FAULT_STEPS[step % len(FAULT_STEPS)], self.rng.uniform(*FAULT_S)
            if time.monotonic() + duration + RECOVERY_S > until:
                return
            injected = []
            for action, server in zip(actions, self.rng.sample(range(COUNT), len(actions))):
                fault = {"id": self.count, "kind": action, "nodes": [server], "effects": [EFFECTS[action]]}
                injected.append((self.count, action, server))
                self.count += 1
                # Recorded before the fault begins, and its end after the repair.
                self.record({"fault": fault})
                self.servers.execute(action, server)
            time.sleep(duration)
            for fault, action, server in injected:
                self.servers.execute(REPAIRS[action], server)
                self.record({"fault_ended": {"fault": fault}})
            step += 1
            time.sleep(RECOVERY_S)

    def record(self, kind):
        self.events.append({"at": now(), "actor": "run", "kind": kind})

    def end(self):
        self.join()
        if self.error:
            raise self.error


def environment(urls):
    """The environment of the quorlock command, without settings for other nodes."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("QUORLOCK_")}
    return env | {"QUORLOCK_NODES": ",".join(urls), "QUORLOCK_MAX_TTL": f"{MAX_TTL_S}s"}
