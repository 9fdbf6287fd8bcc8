"""For tests of models: errors as figures, and assertions that say what is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .results import Result


def sqnr_db(reference: ArrayLike, actual: ArrayLike) -> float:
    """10 log10(Σ reference² / Σ (reference − actual)²) of arrays of one shape, in dB; infinite without any error.

    Raises ValueError for arrays of different shapes.
    """
    true, got = np.asarray(reference, np.float64), np.asarray(actual, np.float64)
    if true.shape != got.shape:
        raise ValueError(f"the reference has shape {true.shape}, and what is compared {got.shape}")
    noise = float(np.square(true - got).sum())
    signal = float(np.square(true).sum())
    return float("inf") if noise == 0 else float(10 * np.log10(signal / noise)) if signal else float("-inf")


def assert_sqnr(
    result: Result, at_least: float, *, output: str | None = None, layer: str | None = None, run: str = "converted"
) -> None:
    """Asserts that every output of the quantized model has `at_least` so many dB; or one `output`, or one `layer`
    inside the model.

    `run` is `converted` (in integers) or `validation` (as fake quant sees it). Raises AssertionError, which names
    everything below and the layers that are worst, and ValueError for a name that there is not.
    """
    if run not in ("converted", "validation"):
        raise ValueError(f"run is {run!r}; it must be converted or validation")
    where, name = (result.layers, layer) if layer is not None else (result.outputs, output)
    if name is not None and name not in where:
        raise ValueError(f"{name!r} is not in the result; there are {', '.join(where)}")
    figures = {one: getattr(where[one], run) for one in ([name] if name is not None else where)}
    # Without any error there is no ratio; without a finite figure there is a reason.
    below = {
        one: metrics
        for one, metrics in figures.items()
        if not (metrics.sqnr_db >= at_least if metrics.sqnr_db is not None else metrics.atol == 0)
    }
    if not below:
        return
    figures_below = ", ".join(
        f"{one} has {metrics.sqnr_db:.1f} dB"
        if metrics.sqnr_db is not None
        else f"{one} has no figure ({metrics.reason})"
        for one, metrics in below.items()
    )
    worst = sorted(
        (getattr(one, run).sqnr_db, one.name, one.effective)
        for one in result.layers.values()
        if getattr(one, run).sqnr_db is not None
    )[:3]
    layers = "".join(f"\n  {db:6.1f} dB  {one} ({way})" for db, one, way in worst)
    raise AssertionError(f"{run}: {figures_below}; at least {at_least:.1f} dB are wanted. The worst layers:{layers}")
