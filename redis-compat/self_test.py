#!/usr/bin/env python3
"""Tests of the runners themselves: what they read from a suite's output, and what they call a difference."""

import os
import sys
import tempfile
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import expected
import unit

sys.dont_write_bytecode = True
loader = SourceFileLoader("redis_py", os.path.join(os.path.dirname(os.path.abspath(__file__)), "redis-py"))
redis_py = module_from_spec(spec_from_loader("redis_py", loader))
loader.exec_module(redis_py)

LOG = """Testing unit/a
[ok]: one (3 ms)
[ok]: twice (0 ms)
[ok]: twice (1 ms)
[err]: two (with) brackets in tests/unit/a.tcl
Expected '1' to be equal to '2'
[ignore]: three: Not supported on external server
[err]: n command 'lpush'
ERR unknown command
"""
END = "[1/1 done]: unit/a (1 seconds)\n\n                   The End\n\n*** [err]: two in tests/unit/a.tcl\n"
HANG = "[TIMEOUT]: clients state report follows.\nsock5581 => (IN PROGRESS) four\n\n                   The End\n"

PLAN = """
[external unit/a]
passes:
  one
  twice
  twice
fails: needs more
  two (with) brackets
skipped: waits
  four
"""


def result_of(log):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "log")
        with open(path, "w") as file:
            file.write(log)
        return unit.read(path)


def tests_of(plan):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "expected.txt")
        with open(path, "w") as file:
            file.write(plan)
        return path, expected.read(path)["external", "unit/a"]


class Reading(unittest.TestCase):
    def test_tests_are_read_by_name(self):
        result, hung = result_of(LOG + END)
        self.assertEqual((dict(result.passed), dict(result.failed)), ({"one": 1, "twice": 2}, {"two (with) brackets": 1}))
        self.assertEqual((hung, result.troubles), (None, []))
        self.assertEqual(result.why("two (with) brackets"), "Expected '1' to be equal to '2'")
        self.assertEqual(result.why("five"), "did not run after an error between tests: n command 'lpush'")

    def test_a_hang_names_its_test(self):
        result, hung = result_of(LOG + HANG)
        self.assertEqual((hung, result.troubles), ("four", []))

    def test_a_run_that_breaks_off_is_a_trouble(self):
        result, _ = result_of(LOG)
        self.assertEqual(len(result.troubles), 1)


class Comparing(unittest.TestCase):
    def differences(self, plan, log=LOG + END):
        return tests_of(plan)[1].differences(result_of(log)[0])

    def test_what_is_expected_is_no_difference(self):
        self.assertEqual(self.differences(PLAN), [])

    def test_each_way_to_differ_is_told(self):
        for (old, new), told in {
            ("  one\n", "  one\n  five\n"): "does not pass: five: did not run",
            ("  one\n", ""): "passes and is not in expected.txt: one",
            ("  twice\n  twice", "  twice\n  twice\n  twice"): "does not pass: twice",
            ("  twice\n  twice", "  twice"): "passes, but is expected to fail: twice",
            ("fails: needs more\n", "passes:\n"): "does not pass: two (with) brackets: Expected '1'",
            ("fails: needs more\n  two (with) brackets\n", ""): "fails and is not in expected.txt: two (with) brackets",
            ("passes:\n  one", "passes:\nfails: old\n  one\npasses:"): "passes, but is expected to fail: one",
            ("needs more", expected.NO_REASON): "has no reason: two (with) brackets",
        }.items():
            self.assertIn(old, PLAN)
            found = self.differences(PLAN.replace(old, new))
            self.assertEqual(len(found), 1, found)
            self.assertTrue(found[0].startswith(told), found)

    def test_a_hang_is_told(self):
        result, _ = result_of(LOG + END)
        result.hung = ["five"]
        self.assertEqual(tests_of(PLAN)[1].differences(result), ["hangs: five"])

    def test_the_reference_must_pass_what_is_listed(self):
        there = tests_of(PLAN)[1].as_on_the_reference()
        found = there.differences(result_of(LOG + END)[0])
        self.assertEqual([line.split(":")[1] for line in found], [" two (with) brackets", " four"])

    def test_an_update_keeps_reasons_and_asks_for_new_ones(self):
        _, tests = tests_of(PLAN.replace("  one\n", "").replace("  twice\n  twice\n", "  five\n"))
        tests.update(result_of(LOG + END)[0])
        self.assertEqual(dict(tests.passing), {"one": 1, "twice": 2})
        self.assertEqual(tests.failing, {"needs more": ["two (with) brackets"], expected.NO_REASON: ["five"]})
        self.assertEqual(tests.skipped, {"waits": ["four"]})

    def test_the_file_is_written_as_it_was_read(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "expected.txt")
            expected.write(path, {("external", "unit/a"): tests_of(PLAN)[1]})
            with open(path) as file:
                self.assertEqual(file.read(), expected.HEAD + PLAN)


PY_PLAN = """
[tests/test_a.py]
passes in RESP2: 2
passes in RESP3: 1
fails: needs more
  T::test_fails
  T::test_half[pool]
fails in RESP3: needs pushes
  T::test_pushes
either: waits too shortly
  T::test_waits
left out: knows one port only
  T::test_far
"""
PY_OUTCOMES = [("T::test_fails[single]", "failed", "why"), ("T::test_fails[pool]", "failed", "why"),
               ("T::test_half[single]", "passed", ""), ("T::test_half[pool]", "failed", "why"),
               ("T::test_pushes", "failed", "why"), ("T::test_waits", "passed", ""), ("T::test_old", "skipped", "")]


class ComparingRedisPy(unittest.TestCase):
    def differences(self, outcomes, protocol=3):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(PY_PLAN)
            file.flush()
            plan = redis_py.read_expected(file.name)["tests/test_a.py"]
        self.assertEqual(list(plan.left_out), ["T::test_far"])
        return plan.differences(protocol, outcomes)

    def test_what_is_expected_is_no_difference(self):
        self.assertEqual(self.differences(PY_OUTCOMES), [])
        in_resp2 = [(name, "passed" if "pushes" in name else outcome, why) for name, outcome, why in PY_OUTCOMES]
        self.assertEqual(self.differences(in_resp2, protocol=2), [])
        waits_longer = [(name, "failed" if "waits" in name else outcome, why) for name, outcome, why in PY_OUTCOMES]
        self.assertEqual(self.differences(waits_longer), [])

    def test_each_way_to_differ_is_told(self):
        for name, outcome, told in [
            ("T::test_half[single]", "failed", "does not pass: T::test_half[single]: why"),
            ("T::test_half[pool]", "passed", "passes, but is expected to fail: T::test_half[pool]"),
            ("T::test_half[single]", "skipped", "0 tests pass, not 1"),
            ("T::test_pushes", "skipped", "did not fail, or did not run: T::test_pushes"),
        ]:
            outcomes = [(test, outcome if test == name else before, "why") for test, before, _ in PY_OUTCOMES]
            self.assertIn(told, self.differences(outcomes))


if __name__ == "__main__":
    unittest.main()
