"""What a run came to: for each kind of holder, and in all. Whose fault is whose is decided here.

Two holders at once are a violation, whichever clients they are: each of them relies on all others. Beyond that, other libraries owe
nothing: what they do badly by the checker's standards, and harms only themselves, is counted and no more.
"""

import json
import subprocess
from collections import Counter

# At least this many locks: a client that never holds one is excluded from nothing.
ENOUGH = 5
# A key that stands for so much of its ttl was left there, unless it was held, or the server away.
LEFT = 0.8
OURS = "quorlock"
# What the judge says of errors, and of locks that were over when they were given, is said here in other words.
TOLD_OTHERWISE = ("no_unexpected_error", "loss_signalled")


def ask_judge(judge, history):
    with open(history) as told:
        answer = subprocess.run([judge, "--json"], stdin=told, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def client(event):
    who = event["actor"]
    return who["client"] if who != "run" else None


def kind(event):
    """What happened, in a word."""
    return event["kind"] if isinstance(event["kind"], str) else next(iter(event["kind"]))


class Report:
    def __init__(self, names, events, verdict, values, seen, ttl_ms):
        self.names, self.events, self.verdict = names, events, verdict
        self.values, self.seen, self.ttl = values, seen, ttl_ms * 1_000_000
        self.turns = self.read()
        self.violations, self.own = self.sort()

    def read(self):
        """Each try for the lock: when it began, was granted, and ended."""
        turns = {}
        for event in self.events:
            if who := client(event):
                turn = turns.setdefault(tuple(who.values()), {"name": self.names[who["process"]]})
                turn.setdefault(kind(event), event["at"])
        return turns

    def sort(self):
        """The judge's findings: violations, and what is some stranger's own."""
        violations, own = [], Counter()
        for finding in self.verdict["violations"]:
            told_by = [client(self.events[place]) for place in finding["events"]]
            names = {self.names[who["process"]] if who else OURS for who in told_by}
            if finding["invariant"] == "exclusion" or OURS in names or len(names) != 1:
                violations.append(finding)
            elif finding["invariant"] not in TOLD_OTHERWISE:
                own[names.pop(), f"broke \"{finding['invariant'].replace('_', ' ')}\""] += 1
        for event in self.events:
            if not client(event) or (name := self.names[client(event)["process"]]) == OURS:
                continue
            if kind(event) == "unexpected_error":
                own[name, event["kind"]["unexpected_error"]["message"]] += 1
            elif kind(event) == "granted" and event["kind"]["granted"]["deadline"] <= event["at"]:
                own[name, "was given the lock when it was over"] += 1
        return violations, own

    def broken(self):
        """Which server was away, from when to when."""
        begun = {}
        for event in self.events:
            if kind(event) == "fault":
                fault = event["kind"]["fault"]
                begun[fault["id"]] = fault["nodes"][0], event["at"]
            elif kind(event) == "fault_ended":
                yield *begun[event["kind"]["fault_ended"]["fault"]], event["at"]

    def longest_wait_ms(self, name):
        """From when it first wanted the lock, after the last time, to when it was granted."""
        longest, since = 0, {}
        for (process, task, _), turn in self.turns.items():
            if turn["name"] != name or "waiting" not in turn:
                continue
            since.setdefault((process, task), turn["waiting"])
            if "granted" in turn:
                longest = max(longest, turn["granted"] - since.pop((process, task)))
        for began in since.values():
            longest = max(longest, self.events[-1]["at"] - began)
        return longest // 1_000_000

    def left(self):
        """How many keys were left to expire, by who may have left them."""
        held = {}
        for turn in self.turns.values():
            if "granted" in turn:
                over = min((turn[end] for end in ("releasing", "unexpected_error") if end in turn), default=turn["granted"])
                held.setdefault(turn["name"], []).append((turn["granted"], over))
        left = Counter({OURS: 0})
        for node, seen in enumerate(self.seen):
            # No client could have removed it then.
            away = [(begun, over) for broken, begun, over in self.broken() if broken == node]
            for value, (first, last) in seen.items():
                owner = self.owner(value)
                spans = away + [hold for name in owner.split(" or ") for hold in held.get(name, [])]
                excused = sum(max(0, min(over, last) - max(begun, first)) for begun, over in spans)
                if last - first - excused >= self.ttl * LEFT:
                    left[owner] += 1
        return left

    def owner(self, value):
        if value.decode("ascii", "replace") in self.values:
            return self.values[value.decode()]
        # By their form, where they do not tell it.
        by_length = {20: ["rslock", "redlock"], 36: ["pottery"], 32: [OURS]}
        names = [name for name in by_length.get(len(value), []) if name in self.names]
        return " or ".join(names) or "no known client"

    def print(self):
        broken = list(self.broken())
        left = self.left()
        print(f"{'':20}{'locks':>7}{'server away':>13}{'failed':>9}{'errors':>8}{'longest wait':>14}")
        for name in dict.fromkeys(self.names):
            turns = [turn for turn in self.turns.values() if turn["name"] == name]
            granted = [turn["granted"] for turn in turns if "granted" in turn]
            away = sum(any(begun <= at < over for _, begun, over in broken) for at in granted)
            failed, errors = (sum(what in turn for turn in turns) for what in ("failed", "unexpected_error"))
            wait = self.longest_wait_ms(name)
            print(f"{name:20}{len(granted):7}{away:13}{failed:9}{errors:8}{wait:11} ms")
        for (name, words), count in sorted(self.own.items()):
            print(f"  its own: {name}: {words}, {count} times")
        keys = ", ".join(f"{count} of {owner}" for owner, count in sorted(left.items()))
        print(f"keys left until they expired: {keys}")
        faults = ", ".join(f"{count} × {name}" for name, count in sorted(self.verdict["faults"].items()))
        locks, seconds = self.verdict["acquisitions"], self.verdict["seconds"]
        print(f"{locks} locks in {seconds:.1f} s, faults: {faults or 'none'}; {len(self.violations)} violations")
        for violation in self.violations:
            print(f"  {violation['invariant']}: {violation['message']}")

    def idle(self):
        """Who had it so seldom that nothing is known of it."""
        granted = Counter(turn["name"] for turn in self.turns.values() if "granted" in turn)
        return [name for name in dict.fromkeys(self.names) if granted[name] < ENOUGH]
