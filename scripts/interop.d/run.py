"""Runs clients of several libraries on one lock while servers fail, merges their events into one history, and checks it.

Run by `scripts/interop`.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from report import OURS, Report, ask_judge
from servers import COUNT, LONGEST_TTL_S, Breaker, Servers, environment, now
from watch import Watch, keys_left

LOCK = "redlock:interop"
# Short, because some libraries leave keys on the servers until they expire.
TTL_MS = 500
# Time after a ttl for keys to expire.
SLACK_MS = 1_000
# Seconds to wait for a process that should have ended.
END_TIMEOUT_S = 30
SECONDS = float(os.environ["SECONDS_EACH"])
SEED = int(os.environ["SEED"])
# Name and command of each foreign client, one per line.
FOREIGN_CLIENTS = [line.split("\t") for line in os.environ["FOREIGN_CLIENTS"].splitlines()]
NAMES = [OURS, OURS] + [name for name, _ in FOREIGN_CLIENTS]
MODE = os.environ["MODE"]
IS_FENCED = MODE == "fenced"
# Negative control: the last client uses another key and reports it as the lock's, so the checker must find a violation.
IS_CONTROL = MODE == "control"


def settings():
    return {
        "seed": SEED, "replay": f"scripts/interop {SECONDS:g} {SEED}", "server": "", "nodes": COUNT,
        "quorum": COUNT // 2 + 1, "max_ttl_ms": LONGEST_TTL_S * 1_000, "drift_ppm": 10_000, "reply_timeout_ms": 500,
        # Other libraries have no fencing numbers, and no probation that would excuse a wait.
        "fenced": False, "probation": False, "recovery_ms": 10_000, "slack_ms": SLACK_MS, "controls": [],
    }


def spec(process, urls, stores):
    return {
        "process": process, "seed": SEED, "urls": urls, "tasks": 2, "keys": [LOCK], "ttl_ms": TTL_MS,
        "max_ttl_ms": LONGEST_TTL_S * 1_000, "reply_timeout_ms": 500, "drift": 0.01, "is_fenced": IS_FENCED,
        "has_thread": False, "long_holds": 0, "drops": False, "stores": stores,
    }


def start(command, process, urls, errors=None):
    uses_other_key = IS_CONTROL and process == len(NAMES) - 1
    boot_ahead = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    told = {"NODES": ",".join(urls), "PROCESS": process, "LOCK": f"{LOCK}:other" if uses_other_key else LOCK,
            "TTL_MS": TTL_MS, "BOOT_AHEAD": boot_ahead, "SECONDS": SECONDS}
    env = environment(urls) | {name: str(value) for name, value in told.items()}
    pipe, in_words = subprocess.PIPE, isinstance(command, str)
    return subprocess.Popen(command, shell=in_words, env=env, stdin=pipe, stdout=pipe, stderr=errors, text=True)


def hold(urls, breaker, stores, errors):
    """All that everybody tells, by who tells it."""
    ours = [start([os.environ["QUORLOCK"], "__chaos-client"], process, urls) for process in (0, 1)]
    for process, client in enumerate(ours):
        client.stdin.write(json.dumps({"begin": spec(process, urls, stores)}) + "\n")
        client.stdin.flush()
    theirs = [start(command, place + 2, urls, errors) for place, (_, command) in enumerate(FOREIGN_CLIENTS)]
    everybody = ours + theirs
    lines = [[] for _ in everybody]
    readers = [
        threading.Thread(target=lambda out=client.stdout, to=to: to.extend(out))
        for client, to in zip(everybody, lines)
    ]
    for thread in [*readers, breaker]:
        thread.start()
    try:
        codes = [client.wait(SECONDS + END_TIMEOUT_S) for client in theirs]
        breaker.end()
        for client in ours:
            client.stdin.close()
        codes = [client.wait(END_TIMEOUT_S) for client in ours] + codes
    finally:
        for client in everybody:
            # A process that has ended is not affected.
            client.kill()
    for reader in readers:
        reader.join()
    failed = [f"{name} ended with {code}" for name, code in zip(NAMES, codes) if code]
    return [[json.loads(line.replace(f"{LOCK}:other", LOCK)) for line in told] for told in lines], failed


def play(place):
    """What happened, as a history; besides, what the watch has seen, whose values are known, and who failed."""
    events = [{"at": now(), "actor": "run", "kind": {"settings": settings()}}]
    with tempfile.TemporaryDirectory() as stores, Servers(os.environ["FLEET"]) as servers:
        if IS_FENCED:
            # No client has to wait for servers that are known to be new.
            init = [os.environ["QUORLOCK"], "init"]
            subprocess.run(init, env=environment(servers.urls), check=True, stdout=subprocess.DEVNULL)
        breaker = Breaker(servers, 0 if IS_CONTROL else SECONDS, SEED)
        watch = Watch(servers.urls, LOCK)
        try:
            with open(f"{place}/clients.log", "a") as errors:
                told, failed = hold(servers.urls, breaker, stores, errors)
        finally:
            watch.end()
        time.sleep((TTL_MS + SLACK_MS) / 1_000)
        events += breaker.events + keys_left(servers.urls, LOCK)
    events.append({"at": now(), "actor": "run", "kind": "finished"})
    values = {}
    for name, lines in zip(NAMES, told):
        values |= {line["value"]: name for line in lines if "value" in line}
        events += [line for line in lines if "value" not in line]
    return sorted(events, key=lambda event: event["at"]), watch.seen, values, failed


def main():
    place = os.environ["PLACE"]
    events, seen, values, bad = play(place)
    history = f"{place}/history-{MODE}"
    with open(history, "w") as out:
        out.writelines(json.dumps(event) + "\n" for event in events)

    verdict = ask_judge(os.environ["CHECKER"], history)
    report = Report(NAMES, events, verdict, values, seen, TTL_MS)
    if IS_CONTROL:
        overlaps = sum(finding["invariant"] == "exclusion" for finding in report.violations)
        print(f"{NAMES[-1]} went by another key: {overlaps} times it held the lock beside another")
        if not overlaps:
            bad.append("the judge minds nothing, so nothing is known")
    else:
        report.print()
        bad += [f"{name} hardly had the lock: nothing is known of it" for name in report.idle()]
        if report.violations:
            bad.append(f"invariants were violated; the history is in {history}")
    if bad:
        sys.exit("\n".join(bad))


main()
