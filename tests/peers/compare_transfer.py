"""Blobs over loopback: the figures of the criterion bench `transfer`, which knows the client's own calls.

There is no peer in Python to measure: gRPC there would time its interpreter. The bench sets dual16
beside plain TCP in the same run, and that is what the ratio is of.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from .context import Context
from .places import ROOT, Missing
from .report import Row

TARGET_MB = 500
COMMAND = ["cargo", "bench", "--locked", "--workspace", "--bench", "transfer"]


def compare(context: Context) -> list[Row]:
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"{' '.join(COMMAND)} failed: {done.stderr[-2000:]}")
    criterion = context.places.target / "criterion"
    return [row(criterion, direction) for direction in ("upload", "download")]


def row(criterion: Path, direction: str) -> Row:
    ours, tcp = (megabytes_per_second(criterion / direction / side / "new") for side in ("dual16", "tcp"))
    return Row(
        work=f"blob {direction} over loopback",
        against="plain TCP",
        peer=f"{tcp:.0f} MB/s",
        dual16=f"{ours:.0f} MB/s",
        ratio=f"{ours / tcp:.2f}×",
        target=f"{TARGET_MB} MB/s",
        met=ours >= TARGET_MB,
        check="the same bytes; medians of `cargo bench --bench transfer`",
    )


def megabytes_per_second(measured: Path) -> float:
    nanoseconds = read(measured / "estimates.json")["median"]["point_estimate"]
    return float(read(measured / "benchmark.json")["throughput"]["Bytes"] / nanoseconds * 1e3)


def read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise Missing(f"{path} is missing: the bench was to write it")
    content: dict[str, Any] = json.loads(path.read_text())
    return content
