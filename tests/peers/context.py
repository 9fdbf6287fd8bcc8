"""What every comparison is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .places import Places


@dataclass(frozen=True)
class Context:
    places: Places
    scratch: Path
    """A folder of its own, removed at the end."""
    threads: int
    rounds: int
    budget: float
    """Seconds of one round of a kernel."""
    job_rounds: int
    """Rounds of a whole job."""


class Disagreement(Exception):
    """The two sides did not do the same work, so their times say nothing."""


def agree(condition: bool, what: str) -> None:
    if not condition:
        raise Disagreement(what)
