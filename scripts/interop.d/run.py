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

from report import QUORLOCK, Report, run_checker
from servers import COUNT, MAX_TTL_S, FaultInjector, Servers, environment, now
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
NAMES = [QUORLOCK, QUORLOCK] + [name for name, _ in FOREIGN_CLIENTS]
MODE = os.environ["MODE"]
IS_FENCED = MODE == "fenced"
# Negative control: the last client uses another key and reports it as the lock's, so the checker must find a violation.
IS_CONTROL = MODE == "control"


def settings():
    return {
        "seed": SEED, "replay": f"scripts/interop {SECONDS:g} {SEED}", "server": "", "nodes": COUNT,
        "quorum": COUNT // 2 + 1, "max_ttl_ms": MAX_TTL_S * 1_000, "drift_ppm": 10_000, "reply_timeout_ms": 500,
        # Other libraries have no fencing numbers, and no probation that would excuse a wait.
        "fenced": False, "probation": False, "recovery_ms": 10_000, "slack_ms": SLACK_MS, "controls": [],
    }


def spec(process, urls, stores):
    return {
        "process": process, "seed": SEED, "urls": urls, "tasks": 2, "keys": [LOCK], "ttl_ms": TTL_MS,
        "max_ttl_ms": MAX_TTL_S * 1_000, "reply_timeout_ms": 500, "drift": 0.01, "is_fenced": IS_FENCED,
        "has_thread": False, "long_holds": 0, "very_long_holds": 0, "cancels": False,
        "waits_ms": [200, 1_000, 3_000, 8_000], "stores": stores,
    }


def start(command, process, urls, errors=None):
    uses_other_key = IS_CONTROL and process == len(NAMES) - 1
    boot_ahead = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    variables = {"NODES": ",".join(urls), "PROCESS": process, "LOCK": f"{LOCK}:other" if uses_other_key else LOCK,
                 "TTL_MS": TTL_MS, "BOOT_AHEAD": boot_ahead, "SECONDS": SECONDS}
    env = environment(urls) | {name: str(value) for name, value in variables.items()}
    pipe, is_shell_command = subprocess.PIPE, isinstance(command, str)
    return subprocess.Popen(command, shell=is_shell_command, env=env, stdin=pipe, stdout=pipe, stderr=errors, text=True)


def run_clients(urls, injector, stores, errors):
    """Runs all clients. Returns the events of each process, and the processes that failed."""
    own = [start([os.environ["QUORLOCK"], "__chaos-client"], process, urls) for process in (0, 1)]
    for process, client in enumerate(own):
        client.stdin.write(json.dumps({"begin": spec(process, urls, stores)}) + "\n")
        client.stdin.flush()
    foreign = [start(command, index + 2, urls, errors) for index, (_, command) in enumerate(FOREIGN_CLIENTS)]
    clients = own + foreign
    lines = [[] for _ in clients]
    readers = [
        threading.Thread(target=lambda out=client.stdout, to=to: to.extend(out))
        for client, to in zip(clients, lines)
    ]
    for thread in [*readers, injector]:
        thread.start()
    try:
        codes = [client.wait(SECONDS + END_TIMEOUT_S) for client in foreign]
        injector.end()
        for client in own:
            client.stdin.close()
        codes = [client.wait(END_TIMEOUT_S) for client in own] + codes
    finally:
        for client in clients:
            # A process that has ended is not affected.
            client.kill()
    for reader in readers:
        reader.join()
    failed = [f"{name} ended with {code}" for name, code in zip(NAMES, codes) if code]
    return [[json.loads(line.replace(f"{LOCK}:other", LOCK)) for line in output] for output in lines], failed


def run_once(folder):
    """Returns the history, the values seen on the servers, the client of each known value, and failed processes."""
    events = [{"at": now(), "actor": "run", "kind": {"settings": settings()}}]
    with tempfile.TemporaryDirectory() as stores, Servers(os.environ["FLEET"]) as servers:
        if IS_FENCED:
            # The servers are new, so no client has to wait for the end of a probation.
            init = [os.environ["QUORLOCK"], "init"]
            subprocess.run(init, env=environment(servers.urls), check=True, stdout=subprocess.DEVNULL)
        injector = FaultInjector(servers, 0 if IS_CONTROL else SECONDS, SEED)
        watch = Watch(servers.urls, LOCK)
        try:
            with open(f"{folder}/clients.log", "a") as errors:
                outputs, failed = run_clients(servers.urls, injector, stores, errors)
        finally:
            watch.end()
        time.sleep((TTL_MS + SLACK_MS) / 1_000)
        events += injector.events + keys_left(servers.urls, LOCK)
    events.append({"at": now(), "actor": "run", "kind": "finished"})
    values = {}
    for name, lines in zip(NAMES, outputs):
        values |= {line["value"]: name for line in lines if "value" in line}
        events += [line for line in lines if "value" not in line]
    return sorted(events, key=lambda event: event["at"]), watch.seen, values, failed


def main():
    folder = os.environ["FOLDER"]
    events, seen, values, problems = run_once(folder)
    history = f"{folder}/history-{MODE}"
    with open(history, "w") as out:
        out.writelines(json.dumps(event) + "\n" for event in events)

    verdict = run_checker(os.environ["CHECKER"], history)
    report = Report(NAMES, events, verdict, values, seen, TTL_MS)
    if IS_CONTROL:
        overlaps = sum(finding["invariant"] == "mutual_exclusion" for finding in report.violations)
        print(f"{NAMES[-1]} used another key: it held the lock together with another client {overlaps} times")
        if not overlaps:
            problems.append("the checker did not detect two holders, so the test shows nothing")
    else:
        report.print()
        problems += [f"{name} held too few locks to show anything" for name in report.too_few_locks()]
        if report.violations:
            problems.append(f"invariants were violated; the history is in {history}")
    if problems:
        sys.exit("\n".join(problems))


main()
