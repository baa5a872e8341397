"""The report of a run: per client, and in total. It decides which violations count against quorlock.

Two holders at the same time are a violation, whichever clients they are, because each relies on all others. Other findings about another
library harm only that library. They are counted and reported, and do not fail the run.
"""

import json
import subprocess
from collections import Counter

# The minimum number of locks of a client: a run in which it held fewer shows nothing about it.
MIN_LOCKS = 5
# A key that existed for this share of its ttl was left behind, unless it was held or the server was away.
LEFT_SHARE = 0.8
QUORLOCK = "quorlock"
# The report counts errors, and locks that were over when granted, in its own words instead.
REPORTED_SEPARATELY = ("no_unexpected_error", "loss_signaled")


def run_checker(checker, history):
    with open(history) as events:
        output = subprocess.run([checker, "--json"], stdin=events, capture_output=True, text=True, check=True)
    return json.loads(output.stdout)


def client_of(event):
    actor = event["actor"]
    return actor["client"] if actor != "run" else None


def kind_of(event):
    """The name of the kind of an event."""
    return event["kind"] if isinstance(event["kind"], str) else next(iter(event["kind"]))


class Report:
    def __init__(self, names, events, verdict, values, seen, ttl_ms):
        self.names, self.events, self.verdict = names, events, verdict
        self.values, self.seen, self.ttl = values, seen, ttl_ms * 1_000_000
        self.attempts = self.read_attempts()
        self.violations, self.client_findings = self.classify()

    def read_attempts(self):
        """For each attempt: the client's name, and the time of its first event of each kind."""
        attempts = {}
        for event in self.events:
            if client := client_of(event):
                attempt = attempts.setdefault(tuple(client.values()), {"name": self.names[client["process"]]})
                attempt.setdefault(kind_of(event), event["at"])
        return attempts

    def classify(self):
        """The checker's findings: violations, and findings that concern only another library."""
        violations, client_findings = [], Counter()
        for finding in self.verdict["violations"]:
            clients = [client_of(self.events[index]) for index in finding["events"]]
            names = {self.names[client["process"]] if client else QUORLOCK for client in clients}
            if finding["invariant"] == "mutual_exclusion" or QUORLOCK in names or len(names) != 1:
                violations.append(finding)
            elif finding["invariant"] not in REPORTED_SEPARATELY:
                client_findings[names.pop(), f"broke \"{finding['invariant'].replace('_', ' ')}\""] += 1
        for event in self.events:
            if not client_of(event) or (name := self.names[client_of(event)["process"]]) == QUORLOCK:
                continue
            if kind_of(event) == "unexpected_error":
                client_findings[name, event["kind"]["unexpected_error"]["message"]] += 1
            elif kind_of(event) == "granted" and event["kind"]["granted"]["deadline"] <= event["at"]:
                client_findings[name, "was granted the lock after its deadline"] += 1
        return violations, client_findings

    def fault_windows(self):
        """The server, begin and end of each fault."""
        begun = {}
        for event in self.events:
            if kind_of(event) == "fault":
                fault = event["kind"]["fault"]
                begun[fault["id"]] = fault["nodes"][0], event["at"]
            elif kind_of(event) == "fault_ended":
                yield *begun[event["kind"]["fault_ended"]["fault"]], event["at"]

    def longest_wait_ms(self, name):
        """The longest time from the first attempt after a lock to the next grant."""
        longest, since = 0, {}
        for (process, task, _), attempt in self.attempts.items():
            if attempt["name"] != name or "waiting" not in attempt:
                continue
            since.setdefault((process, task), attempt["waiting"])
            if "granted" in attempt:
                longest = max(longest, attempt["granted"] - since.pop((process, task)))
        for began in since.values():
            longest = max(longest, self.events[-1]["at"] - began)
        return longest // 1_000_000

    def keys_left(self):
        """The number of keys that were left to expire, by client."""
        held = {}
        for attempt in self.attempts.values():
            if "granted" in attempt:
                ends = (attempt[end] for end in ("releasing", "unexpected_error") if end in attempt)
                held.setdefault(attempt["name"], []).append((attempt["granted"], min(ends, default=attempt["granted"])))
        left = Counter({QUORLOCK: 0})
        for node, seen in enumerate(self.seen):
            # No client could remove a key during these times.
            away = [(begin, end) for server, begin, end in self.fault_windows() if server == node]
            for value, (first, last) in seen.items():
                owner = self.owner(value)
                windows = away + [hold for name in owner.split(" or ") for hold in held.get(name, [])]
                excused = sum(max(0, min(end, last) - max(begin, first)) for begin, end in windows)
                if last - first - excused >= self.ttl * LEFT_SHARE:
                    left[owner] += 1
        return left

    def owner(self, value):
        if value.decode("ascii", "replace") in self.values:
            return self.values[value.decode()]
        # By the length of the value, for clients that do not record their values.
        by_length = {20: ["rslock", "redlock"], 36: ["pottery"], 32: [QUORLOCK]}
        names = [name for name in by_length.get(len(value), []) if name in self.names]
        return " or ".join(names) or "no known client"

    def print(self):
        windows = list(self.fault_windows())
        left = self.keys_left()
        print(f"{'':20}{'locks':>7}{'server away':>13}{'not granted':>13}{'errors':>8}{'longest wait':>14}")
        for name in dict.fromkeys(self.names):
            attempts = [attempt for attempt in self.attempts.values() if attempt["name"] == name]
            granted = [attempt["granted"] for attempt in attempts if "granted" in attempt]
            away = sum(any(begin <= at < end for _, begin, end in windows) for at in granted)
            failed, errors = (sum(kind in attempt for attempt in attempts) for kind in ("failed", "unexpected_error"))
            wait = self.longest_wait_ms(name)
            print(f"{name:20}{len(granted):7}{away:13}{failed:13}{errors:8}{wait:11} ms")
        for (name, finding), count in sorted(self.client_findings.items()):
            print(f"  {name}: {finding}, {count} times")
        keys = ", ".join(f"{count} of {owner}" for owner, count in sorted(left.items()))
        print(f"keys left until they expired: {keys}")
        faults = ", ".join(f"{count} × {name}" for name, count in sorted(self.verdict["faults"].items()))
        locks, seconds = self.verdict["acquisitions"], self.verdict["seconds"]
        print(f"{locks} locks in {seconds:.1f} s, faults: {faults or 'none'}; {len(self.violations)} violations")
        for violation in self.violations:
            print(f"  {violation['invariant']}: {violation['message']}")

    def too_few_locks(self):
        """The clients that held fewer than MIN_LOCKS locks."""
        granted = Counter(attempt["name"] for attempt in self.attempts.values() if "granted" in attempt)
        return [name for name in dict.fromkeys(self.names) if granted[name] < MIN_LOCKS]
