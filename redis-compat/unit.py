"""One unit file of the suite: runs it in a tclsh of its own, reads what it printed.

A failed assertion fails its test; so, with --durable, does any other error inside of a test. The suite's client reads
without a time limit: when nothing has happened for a while the suite gives up and names the test that hung. Then the
unit is run again, on a fresh server, without that test.
"""

import os
import re
import signal
import subprocess
import time
from collections import Counter

HANGS_MAX = 3
COLORS = re.compile(r"\x1b\[[0-9;]*m")
RESULT = re.compile(r"\[(ok|err|exception)\]: (.*)")
TIME = re.compile(r" \(\d+ ms\)$")
FILE = re.compile(r" in tests/\S+\.tcl$")
HUNG = re.compile(r"sock\w+ => \((IN PROGRESS|OK|ERR)\) (.*)")


class Result:
    """What came out of a unit: names of tests, as often as they ran."""

    def __init__(self):
        self.passed = Counter()
        self.failed = Counter()
        self.details = {}
        # Errors between tests, after which the rest of a block does not run.
        self.between = []
        self.hung = []
        self.troubles = []
        self.seconds = 0.0

    def passes(self, name):
        self.passed[name] += 1

    def fails(self, name, detail):
        self.failed[name] += 1
        self.details.setdefault(name, detail)

    def why(self, name):
        """Why the test did not pass."""
        told = " ".join(self.details.get(name, ["did not run", *self.between[:1]]))
        return " ".join(told.split())[:300]


def run(mode, name, skips, seconds, options):
    """Runs the unit without the tests named in `skips`, for no longer than `seconds` in all. Never raises for what the server
    does."""
    started, hung = time.monotonic(), []
    while True:
        left = seconds - (time.monotonic() - started)
        log = os.path.join(mode.logs, name.replace("/", "-") + (f".{len(hung)}" if hung else "") + ".log")
        try:
            with mode.servers(name) as arguments:
                in_time = suite_run(mode, name, arguments, skips + hung, log, max(left, 5), options)
        except OSError as error:
            return broken(str(error))
        result, test = read(log)
        if test is None or test in hung or len(hung) == HANGS_MAX or not in_time:
            break
        hung.append(test)
    result.hung = hung
    result.troubles += mode.troubles
    if not in_time:
        result.troubles.append(f"stopped after {seconds:.0f} s, see {log}")
    elif test is not None:
        result.troubles.append(f"stopped for another test that hangs: {test}")
    result.seconds = time.monotonic() - started
    return result


def broken(trouble):
    """The result of a unit that could not be run."""
    result = Result()
    result.troubles.append(trouble)
    return result


def suite_run(mode, name, arguments, skips, log, seconds, options):
    """Runs the suite once with its output in `log`. Returns whether it ended in time; leaves no process of its behind."""
    command = ["tclsh", "tests/test_helper.tcl", "--single", name, "--durable", "--clients", "1",
               "--timeout", str(options.hang_seconds), *arguments]
    command += ["--tags", options.tags] if options.tags else []
    command += [word for test in options.only for word in ("--only", test)]
    command += [word for test in skips for word in ("--skiptest", test)]
    environment = dict(os.environ, TERM="dumb", LC_ALL="C.UTF-8")
    with open(log, "wb") as out:
        process = subprocess.Popen(command, cwd=mode.suite, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=out, start_new_session=True)
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        # The session is that of this one run.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def read(log):
    """Reads the output of a run: its result, and the test that hung, if one did."""
    with open(log, encoding="utf-8", errors="surrogateescape") as file:
        text = COLORS.sub("", file.read())
    body, ended, _ = text.partition("\n                   The End\n")
    result, hung, detail = Result(), None, None
    for line in body.split("\n"):
        if found := RESULT.match(line):
            detail = book(result, *found.groups())
        elif found := HUNG.match(line):
            hung, detail = found.group(2), None
        elif re.match(r"\[|Testing ", line):
            detail = None
        elif detail is not None and len(detail) < 6:
            detail.append(line.strip())
    if not ended:
        result.troubles.append(f"the run broke off, see {log}")
    return result, hung


def book(result, kind, text):
    """Counts one line of the output. Returns where the lines that follow belong."""
    if kind == "ok":
        result.passes(TIME.sub("", text).strip())
        return None
    detail = []
    if kind == "err" and FILE.search(text):
        result.fails(FILE.sub("", text).strip(), detail)
    else:
        result.between.append(f"after an error between tests: {text.strip()}")
    return detail
