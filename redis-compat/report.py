"""For pytest: writes what came out of each test into the file that REPORT names, a line each: id, outcome, why it failed.

A test is its three phases together: who fails before or after the test itself has failed.
"""

import os
import tracemalloc

# The tests have every allocation traced, to name leaks of the client: most of their time, and nothing about a server.
tracemalloc.start = tracemalloc.stop = lambda *_: None


def pytest_itemcollected(item):
    """Shows an error as what it says, without the source around it: reading that takes longer than the test."""
    item.repr_failure = item._repr_failure_py = lambda failure, *_, **__: f"{failure.typename}: {failure.value}"


REPORT = open(os.environ["REPORT"], "w", encoding="utf-8", buffering=1)
outcomes = {}


def pytest_runtest_logreport(report):
    outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
    why = ""
    if outcome == "failed":
        why = " ".join(str(report.longrepr).split())[:300]
    before, because = outcomes.get(report.nodeid, ("passed", ""))
    if before == "passed":
        before, because = outcome, why
        outcomes[report.nodeid] = before, because
    if report.when == "teardown":
        REPORT.write(f"{report.nodeid}\t{before}\t{because}\n")


# What these ask for is here, though it came after the version that the server tells.
NEWER = ("tests/test_hash.py::", "tests/test_asyncio/test_hash.py::")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.startswith(NEWER):
            item.own_markers = [mark for mark in item.own_markers if mark.name != "skipif"]
