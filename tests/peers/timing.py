"""Time of two or more sides in turns, so that each meets the same noise of the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

WARM_UP_CALLS = 2
LEAST_CALLS = 3


@dataclass(frozen=True)
class Spread:
    """Seconds of one piece of work over all rounds."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(seconds: list[float]) -> Spread:
        return Spread(min(seconds), statistics.median(seconds), max(seconds))

    def __str__(self) -> str:
        unit, factor = next(
            (u, f) for u, f in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if self.high * f >= 1 or u == "µs"
        )
        low, median, high = (three_digits(value * factor) for value in (self.low, self.median, self.high))
        return f"{median} {unit} ({low}–{high})"


def three_digits(value: float) -> str:
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f}"


def in_turns(rounds: int, *sides: Callable[[], float]) -> list[Spread]:
    """Each side's seconds, A B A B …; a side answers with the seconds of its own round."""
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, measured in zip(sides, seconds, strict=True):
            measured.append(side())
    return [Spread.of(measured) for measured in seconds]


def calls(work: Callable[[], object], budget: float) -> float:
    """Median seconds of a call, repeated until `budget` seconds are spent."""
    seconds: list[float] = []
    for _ in range(WARM_UP_CALLS):
        work()
    start = time.perf_counter()
    while len(seconds) < LEAST_CALLS or time.perf_counter() - start < budget:
        seconds.append(once(work))
    return statistics.median(seconds)


def once(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before
