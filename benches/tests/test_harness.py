"""Tests of the harness: `python3 -m unittest discover benches/tests` from the repository's root."""

import importlib.machinery
import importlib.util
import pathlib
import sys
import unittest
from unittest import mock

sys.dont_write_bytecode = True
BENCHES = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCHES))

from harness import report, sampling, stats  # noqa: E402


def load_script(name):
    """A script without a suffix, as a module."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(BENCHES / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class Intervals(unittest.TestCase):
    def test_six_runs_are_the_fewest_with_an_interval(self):
        self.assertEqual(stats.interval_rank(stats.FEWEST_RUNS), 0)
        self.assertGreater(2 * 0.5 ** (stats.FEWEST_RUNS - 1), 0.05)

    def test_ten_runs_leave_out_the_two_extremes(self):
        found = stats.estimate([1, 2, 3, 4, 5, 6, 7, 8, 9, 1000])
        self.assertEqual((found.median, found.low, found.high), (5.5, 2, 9))

    def test_ratios_are_formed_within_a_round(self):
        self.assertEqual(stats.ratios({0: 2.0, 1: 6.0, 2: 1.0}, {0: 1.0, 1: 3.0}), {0: 2.0, 1: 2.0})

    def test_a_geometric_mean_needs_every_row(self):
        means = stats.geometric_means([{0: 1.0, 1: 2.0}, {0: 4.0}])
        self.assertEqual(list(means), [0])
        self.assertAlmostEqual(means[0], 2.0)


class Tables(unittest.TestCase):
    ROWS = [{"row": "a", "group": "g", "threads": 1}, {"row": "b", "group": "g", "threads": 2}]

    @staticmethod
    def sample(ns, cpu_ns=100):
        return {"ns": ns, "wall_ns": 100, "cpu_ns": cpu_ns, "peak_kib": 1024}

    def comparison(self, values):
        return report.Comparison(sampling.Samples(values), self.ROWS, ["terrace", "x", "y"], "x", "terrace")

    def test_the_subject_is_set_against_the_best_rival_of_each_row(self):
        row = {"terrace": {0: self.sample(3)}, "x": {0: self.sample(4)}, "y": {0: self.sample(2)}}
        text = self.comparison({"a": row, "b": row}).render("ns", "ns", 1.0)
        self.assertIn("| a | 4.00 | 0.75 [0.75, 0.75] | 0.50 [0.50, 0.50] | 1.50 [1.50, 1.50] (y) |", text)

    def test_a_row_that_failed_is_shown_as_such(self):
        text = self.comparison({"a": {"x": {0: self.sample(4)}}}).render("ns", "ns", 1.0)
        self.assertIn("| a | 4.00 | – | – |", text)
        self.assertIn("| b | failed |", text)

    def test_only_single_threaded_samples_can_be_disturbed(self):
        values = {"a": {"x": {0: self.sample(1, 90), 1: self.sample(1)}}, "b": {"x": {0: self.sample(1, 50)}}}
        self.assertEqual(self.comparison(values).disturbed(), (1, 2))


class Limits(unittest.TestCase):
    CHECK = load_script("check-instructions")
    RECORDED = {"c-face": {"pairs": 40.0}}

    def test_two_per_cent_are_allowed(self):
        self.assertIsNone(self.CHECK.verdict(self.RECORDED, 0.02, "c-face", "pairs", 40.8))

    def test_more_is_not_and_the_message_says_how_much(self):
        self.assertIn("2.5 % above the recorded 40.00", self.CHECK.verdict(self.RECORDED, 0.02, "c-face", "pairs", 41.0))

    def test_a_figure_without_a_record_fails(self):
        self.assertIn("no limit is recorded", self.CHECK.verdict(self.RECORDED, 0.02, "rust-face", "pairs", 1.0))


class Sampling(unittest.TestCase):
    @staticmethod
    def collect(heaps, threads, runs, report):
        """The order in which the heaps were sampled, and the samples."""
        order = []
        with mock.patch.object(sampling, "sample", lambda target, row, scale: order.append(target.heap) or report(order)):
            targets = [sampling.Target(heap, "program") for heap in heaps]
            samples = sampling.collect(targets, [{"row": "row", "threads": threads}], runs, 1.0, "test")
        return "".join(order), samples

    def test_every_target_takes_each_place_once(self):
        order, _ = self.collect("abc", 1, 3, lambda order: {"wall_ns": 100, "cpu_ns": 100})
        self.assertEqual(order, "abcbcacab")

    def test_a_disturbed_sample_is_taken_again(self):
        order, samples = self.collect("a", 1, 1, lambda order: {"wall_ns": 100, "cpu_ns": 49 * len(order)})
        self.assertEqual(order, "aa")
        self.assertEqual(samples.series("row", "a", "cpu_ns"), {0: 98})

    def test_threads_that_wait_for_each_other_are_not_disturbed(self):
        order, _ = self.collect("a", 2, 1, lambda order: {"wall_ns": 100, "cpu_ns": 10})
        self.assertEqual(order, "a")

    def test_a_heap_that_fails_a_row_is_left_out_of_it_and_named(self):
        def fail(_):
            raise RuntimeError("it broke")

        order, samples = self.collect("a", 1, 3, fail)
        self.assertEqual(order, "a")
        self.assertEqual(samples.failures, ["test: a failed in row: it broke"])


if __name__ == "__main__":
    unittest.main()
