"""Runs holders of several libraries against one lock, and puts what they tell together as one history for the judge.

To be run by `scripts/strangers`: the nodes are in QUORLOCK_NODES, the history goes to standard output.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time

LOCK = "redlock:strangers"
# Short, for some strangers leave keys on a minority of the nodes until they expire.
TTL_MS = 500
# How long to wait for somebody who should have ended.
PATIENCE = 30
SECONDS = float(os.environ["SECONDS_EACH"])
# Name and command of each stranger, one a line.
STRANGERS = [line.split("\t") for line in os.environ["STRANGERS"].splitlines()]
NODES = os.environ["QUORLOCK_NODES"].split(",")
IS_GUARDED = os.environ["MODE"] == "guarded"


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def settings():
    return {
        "seed": 0, "replay": "scripts/strangers", "server": "", "nodes": len(NODES),
        "quorum": len(NODES) // 2 + 1, "longest_ttl_ms": 30_000, "drift_ppm": 10_000, "node_timeout_ms": 500,
        # Strangers know no fencing numbers; nothing is broken here, so nothing is excused either.
        "guarded": False, "probation": False, "recovery_ms": 10_000, "slack_ms": 1_000, "controls": [],
    }


def spec(process, stores):
    return {
        "process": process, "seed": process, "urls": NODES, "tasks": 2, "keys": [LOCK], "ttl_ms": TTL_MS,
        "longest_ttl_ms": 30_000, "node_timeout_ms": 500, "drift": 0.01, "is_guarded": IS_GUARDED,
        "has_thread": False, "long_holds": 0, "drops": False, "stores": stores,
    }


def start(command, process):
    boot_ahead = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    told = {"NODES": ",".join(NODES), "PROCESS": process, "LOCK": LOCK, "TTL_MS": TTL_MS,
            "BOOT_AHEAD": boot_ahead, "SECONDS": SECONDS}
    env = dict(os.environ, **{name: str(value) for name, value in told.items()})
    pipe = subprocess.PIPE
    return subprocess.Popen(command, shell=isinstance(command, str), env=env, stdin=pipe, stdout=pipe, text=True)


def main():
    events = [{"at": now(), "who": "run", "what": {"settings": settings()}}]
    with tempfile.TemporaryDirectory() as stores:
        ours = [start([os.environ["QUORLOCK"], "__chaos-client"], process) for process in (0, 1)]
        for process, client in enumerate(ours):
            client.stdin.write(json.dumps({"begin": spec(process, stores)}) + "\n")
            client.stdin.flush()
        theirs = [start(command, place + len(ours)) for place, (_, command) in enumerate(STRANGERS)]
        everybody = ours + theirs
        lines = [[] for _ in everybody]
        readers = [
            threading.Thread(target=lambda out=client.stdout, to=to: to.extend(out))
            for client, to in zip(everybody, lines)
        ]
        for reader in readers:
            reader.start()
        try:
            failed = [client.wait(SECONDS + PATIENCE) for client in theirs]
            for client in ours:
                client.stdin.close()
            failed += [client.wait(PATIENCE) for client in ours]
        finally:
            for client in everybody:
                # Whoever has ended is left alone by this.
                client.kill()
        for reader in readers:
            reader.join()
    for told in lines:
        events += [json.loads(line) for line in told]
    events.append({"at": now(), "who": "run", "what": "finished"})
    for event in sorted(events, key=lambda event: event["at"]):
        print(json.dumps(event))
    names = ["quorlock", "quorlock"] + [name for name, _ in STRANGERS]
    for name, told in zip(names, lines):
        granted = sum('"granted"' in line for line in told)
        print(f"{name}: {granted} locks", file=sys.stderr)
        # Whoever never holds it is excluded from nothing.
        if granted == 0:
            sys.exit(f"{name} was never granted the lock")
    if any(failed):
        sys.exit(f"a holder failed: {failed}")


main()
