#!/usr/bin/env python3
"""Tests of the runner itself: what it reads from the suite's output, and what it calls a difference."""

import os
import tempfile
import unittest

import expected
import unit

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


if __name__ == "__main__":
    unittest.main()
