"""Rows of comparisons, as text and as the table of PERFORMANCE.md."""

from __future__ import annotations

from dataclasses import dataclass

from .timing import Spread


@dataclass(frozen=True)
class Row:
    """One line: what a peer needs, what dual16 needs, and how that was made comparable."""

    work: str
    against: str
    peer: str
    dual16: str
    ratio: str
    target: str
    met: bool | None
    """None where there is no target."""
    check: str
    """How it is known that both did the same work."""


def speed(
    work: str, against: str, peer: Spread, dual16: Spread, check: str, at_least: float | None = None
) -> Row:
    ratio = peer.median / dual16.median
    return Row(
        work=work,
        against=against,
        peer=str(peer),
        dual16=str(dual16),
        ratio=f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.0f}×",
        target=f"{at_least:g}×" if at_least else "–",
        met=ratio >= at_least if at_least else None,
        check=check,
    )


HEADINGS: tuple[str, ...] = (
    "work",
    "against",
    "peer: median (min–max)",
    "dual16",
    "ratio",
    "target",
    "met",
    "same work, because",
)


def cells(row: Row) -> tuple[str, ...]:
    met = {True: "yes", False: "**no**", None: ""}[row.met]
    return row.work, row.against, row.peer, row.dual16, row.ratio, row.target, met, row.check


def markdown(rows: list[Row]) -> str:
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(rows: list[Row]) -> str:
    blocks = []
    for row in rows:
        met = {True: "met", False: "NOT MET", None: "no target"}[row.met]
        blocks.append(
            f"{row.work}\n  against {row.against}\n  peer    {row.peer}\n  dual16  {row.dual16}\n"
            f"  ratio   {row.ratio}, target {row.target}: {met}\n  check   {row.check}"
        )
    return "\n".join(blocks)
