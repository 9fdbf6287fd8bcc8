"""A worker's peak memory on minilm, with the 8 batches and with 80 made from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from .cluster import Cluster
from .compare_minilm import EVERY_WAY
from .context import Context
from .places import Model
from .report import Row

FOLD = 10
MOST_GROWTH = 0.05
NOISE = 0.01
MIB = 2**20


def compare(context: Context) -> list[Row]:
    model = context.places.model("minilm")
    few, many = (peak(context, model, fold) for fold in (1, FOLD))
    growth = many / few - 1
    size = model.onnx.stat().st_size
    return [
        Row(
            work="minilm: peak memory of a worker, 80 batches",
            against="8 batches",
            peer=f"{few / MIB:.0f} MiB (model {size / MIB:.0f} MiB)",
            dual16=f"{many / MIB:.0f} MiB",
            ratio=f"{100 * growth:+.1f} %",
            target=f"+{100 * MOST_GROWTH:.0f} % at most",
            met=growth <= MOST_GROWTH,
            check="VmHWM of the worker's process; the same batches with noise added",
        )
    ]


def peak(context: Context, model: Model, fold: int) -> int:
    """Bytes; of the middle one of several runs, since tasks meet by chance."""
    calibration = context.scratch / f"calibration-{fold}"
    write_batches(model, fold, calibration)
    peaks = []
    for _ in range(context.job_rounds):
        with Cluster(context.places, context.scratch, workers=1, tasks=context.threads) as cluster:
            results = cluster.quantize(model, calibration, *EVERY_WAY)
            peaks.append(cluster.worker_peak_bytes())
        shutil.rmtree(results.folder)
    return sorted(peaks)[len(peaks) // 2]


def write_batches(model: Model, fold: int, folder: Path) -> None:
    """Every batch as it is, then again with a little noise, so that no two files are equal."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(16)
    batches = model.calibration()
    for number in range(fold * len(batches)):
        batch = dict(batches[number % len(batches)])
        if number >= len(batches):
            for name, x in batch.items():
                batch[name] = x + NOISE * x.std() * torch.randn(x.shape, generator=generator)
        save_file(batch, folder / f"{number:03}.safetensors")
