"""Medians with distribution-free intervals, of ratios that were measured in the same round."""

import math
import statistics
from dataclasses import dataclass

FEWEST_RUNS = 6
"""Below this many runs no pair of order statistics encloses the median with 95 % confidence."""


@dataclass(frozen=True)
class Estimate:
    """A median, and the interval that holds the true median with at least 95 % confidence (given FEWEST_RUNS runs)."""

    median: float
    low: float
    high: float

    def __str__(self):
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def interval_rank(runs):
    """How many of the sorted values lie outside the interval at each end.

    The number of values below the true median is binomial with one half, whatever the distribution; the rank is the
    largest whose tail stays within 2.5 %.
    """
    rank, tail = 0, 2.0**-runs
    while tail <= 0.025:
        rank += 1
        tail += math.comb(runs, rank) * 2.0**-runs
    return max(rank - 1, 0)


def estimate(values):
    """The Estimate of a list of values; None of an empty one."""
    if not values:
        return None
    values = sorted(values)
    rank = interval_rank(len(values))
    return Estimate(statistics.median(values), values[rank], values[-1 - rank])


def ratios(numerators, denominators):
    """The ratio in each round in which both were measured. Both are {round: value}."""
    return {run: value / denominators[run] for run, value in numerators.items() if denominators.get(run)}


def geometric_means(rows):
    """Over several rows of {round: ratio}, the geometric mean in each round that all rows have."""
    common = set.intersection(*(set(row) for row in rows)) if rows else set()
    return {run: math.exp(statistics.fmean(math.log(row[run]) for row in rows)) for run in common}
