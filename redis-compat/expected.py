"""expected.txt: which tests of a unit pass on Larder, and why the others do not.

    [external unit/dump]            the mode and the unit; below it groups of tests by name
    passes:                         must pass
      RESTORE can set LRU
    fails: needs lists              is run and must not pass: when it does, the line is stale
      ...
    skipped: needs replication      is not run, because it would hang or spoil what comes after
      ...

A name that the unit uses several times stands there as often. Every group but the first kind says why.
"""

import re
from collections import Counter

NO_REASON = "WHY?"
# A test with this reason also fails on the reference.
REFERENCE_FAILS = "fails on redis-server too"

HEAD = """# What is expected of each test of Redis's suite: see docs/compatibility-tests.md and expected.py.
"""


class Tests:
    """The tests of one unit: names that pass, as often as they do, and reason → names of the others."""

    def __init__(self):
        self.passing = Counter()
        self.failing = {}
        self.skipped = {}

    def skipped_names(self):
        return [name for names in self.skipped.values() for name in names]

    def failing_names(self):
        return [name for names in self.failing.values() for name in names]

    def all(self):
        """Every test of the unit, as often as it runs on redis-server."""
        return self.passing + Counter(self.failing_names()) + Counter(self.skipped_names())

    def only(self, names):
        """These tests alone."""
        chosen = Tests()
        chosen.passing = Counter({name: count for name, count in self.passing.items() if name in names})
        for mine, theirs in [(self.failing, chosen.failing), (self.skipped, chosen.skipped)]:
            theirs.update({reason: [name for name in group if name in names] for reason, group in mine.items()})
        return chosen

    def as_on_the_reference(self):
        """What the same tests must do on redis-server."""
        there = Tests()
        there.passing = self.all()
        for reason, names in self.failing.items():
            if reason.startswith(REFERENCE_FAILS):
                there.failing[reason] = names
                there.passing -= Counter(names)
        return there

    def differences(self, result):
        """What came out otherwise than expected, one line each."""
        found = [f"hangs: {name}" for name in result.hung]
        for name, count in self.passing.items():
            if result.passed[name] < count and name not in result.hung:
                found.append(f"does not pass: {name}: {result.why(name)}")
        for name in result.failed:
            if name not in self.all():
                found.append(f"fails and is not in expected.txt: {name}: {result.why(name)}")
        for name, count in result.passed.items():
            if count > self.passing[name]:
                told = "passes, but is expected to fail" if name in self.all() else "passes and is not in expected.txt"
                found.append(f"{told}: {name}")
        found += [f"has no reason: {name}" for group in (self.failing, self.skipped) for name in group.get(NO_REASON, [])]
        return found

    def update(self, result):
        """Takes over what came out. Tests that no longer pass, or did not run, are to be given a reason."""
        seen = result.passed + result.failed | Counter(result.hung)
        missing = (self.all() | seen) - result.passed - Counter(self.skipped_names())
        self.passing = Counter(result.passed)
        for reason, names in list(self.failing.items()):
            self.failing[reason] = [name for name in names if missing[name] and not missing.subtract([name])]
        if left := sorted((+missing).elements()):
            self.failing.setdefault(NO_REASON, []).extend(left)


def read(path):
    """Reads the file: (mode, unit) → its tests."""
    plan, group = {}, None
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            if found := re.fullmatch(r"\[(\w+) (\S+)\]", line):
                tests = plan.setdefault(found.groups(), Tests())
            elif line.startswith("  "):
                group.append(line[2:])
            elif line == "passes:":
                group = Passing(tests.passing)
            elif found := re.fullmatch(r"(fails|skipped): (.+)", line):
                groups = tests.failing if found.group(1) == "fails" else tests.skipped
                group = groups.setdefault(found.group(2), [])
            elif line and not line.startswith("#"):
                raise ValueError(f"{path}:{number}: {line}")
    return plan


class Passing:
    """A counter that is filled like a list."""

    def __init__(self, counter):
        self.counter = counter

    def append(self, name):
        self.counter[name] += 1


def write(path, plan):
    """Writes the file."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(HEAD)
        for (mode, unit), tests in plan.items():
            file.write(f"\n[{mode} {unit}]\n")
            groups = [("passes:", tests.passing.elements())]
            groups += [(f"fails: {reason}", names) for reason, names in tests.failing.items()]
            groups += [(f"skipped: {reason}", names) for reason, names in tests.skipped.items()]
            for title, names in groups:
                lines = [f"  {name}\n" for name in names]
                file.writelines([f"{title}\n", *lines] if lines else [])
