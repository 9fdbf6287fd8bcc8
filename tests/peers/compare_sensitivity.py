"""A plugin-like sensitivity pass: one fake quant on at a time, every metric at the model's output.

PyTorch runs the whole model once for each activation and each Linear's weight, on every batch, as a plugin's
profiler does. dual16's `analyze --exact all` measures the same rows and those of constants and tables, which
PyTorch's side leaves out; its estimate is `analyze --exact 1`, all rows to first order and the worst exactly.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .cluster import Cluster, Results
from .context import Context, agree
from .fake_quant import INT8, INT16
from .linears import Observe, RunLinear, float_linear
from .observers import MinMax
from .onnx_graph import OnnxGraph
from .places import Missing, Model
from .report import Row, speed
from .states import Calibration, Only, Validation, Visit, untouched
from .timing import in_turns, once
from .ways import Gemm, Layer

EXACT_TARGET = 5.0
ESTIMATE_TARGET = 20.0
BINS = 2048
# Where an error is this far below the output, roundings of f32 show.
COMPARED_BELOW_DB = 90.0
TOLERANCE_DB = 0.5


@dataclass(frozen=True)
class OneWeight:
    """Only this layer's weight is int8."""

    name: str

    def __call__(self, layer: Layer, x: Tensor, visit: Visit) -> Tensor:
        if layer.name != self.name:
            return visit(layer.name, layer.float(x))
        return Gemm(layer, INT16, INT8).run(x, visit)


def visited_linear(layer: Layer, x: Tensor, visit: Visit) -> Tensor:
    return visit(layer.name, layer.float(x))


@dataclass
class Errors:
    """The metrics of one row, over batches."""

    count: int = 0
    absolute: float = 0.0
    squared: float = 0.0
    signal: float = 0.0
    product: float = 0.0
    norm: float = 0.0
    atol: float = 0.0
    rtol: float = 0.0
    kl: list[float] = field(default_factory=list)

    def add(self, reference: Tensor, got: Tensor) -> None:
        error = (got - reference).abs()
        self.count += error.numel()
        self.absolute += float(error.sum(dtype=torch.float64))
        self.squared += float(error.square().sum(dtype=torch.float64))
        self.signal += float(reference.square().sum(dtype=torch.float64))
        self.product += float((reference * got).sum(dtype=torch.float64))
        self.norm += float(got.square().sum(dtype=torch.float64))
        self.atol = max(self.atol, float(error.max()))
        self.rtol = max(self.rtol, float((error / reference.abs().clamp_min(1e-12)).max()))
        low, high = float(torch.minimum(reference.min(), got.min())), float(
            torch.maximum(reference.max(), got.max())
        )
        p, q = (torch.histc(x, BINS, low, high) + 1e-9 for x in (reference, got))
        self.kl.append(float(torch.sum(p / p.sum() * torch.log(p / p.sum() * q.sum() / q))))

    @property
    def sqnr(self) -> float:
        if not self.squared:
            return float("inf")
        return 10 * float(torch.log10(torch.tensor(self.signal / self.squared, dtype=torch.float64)))


def compare(context: Context) -> list[Row]:
    try:
        return compare_model(context, context.places.model("minilm"))
    except Missing as missing:
        return [Row("sensitivity of minilm", "–", "not run", "not run", "–", "–", None, str(missing))]


def compare_model(context: Context, model: Model) -> list[Row]:
    peer: dict[tuple[str, str], Errors] = {}
    ours: dict[str, Results] = {}

    def dual16(exact: str) -> Callable[[], float]:
        def run() -> float:
            with Cluster(context.places, context.scratch, workers=1, tasks=context.threads) as cluster:
                ours[exact] = cluster.analyze(model, model.calibration_dir, "--exact", exact)
            return ours[exact].seconds

        return run

    theirs, exact, estimate = in_turns(
        context.job_rounds,
        lambda: once(lambda: peer.update(sensitivity(model))),
        dual16("all"),
        dual16("1"),
    )
    check = checked(peer, ours["all"])
    against = f"PyTorch, the whole model once for each of {len(peer)} rows"
    return [
        speed(
            f"{model.name}: the exact table of all operators, 7 metrics",
            against,
            theirs,
            exact,
            check,
            EXACT_TARGET,
        ),
        speed(
            f"{model.name}: the estimate of all operators",
            against,
            theirs,
            estimate,
            f"rank correlation with the exact table {ours['all'].rank_correlation():.3f}",
            ESTIMATE_TARGET,
        ),
    ]


def checked(peer: dict[tuple[str, str], Errors], ours: Results) -> str:
    with (ours.folder / "sensitivity.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file)]
    figures = {
        (row["op_name"], row["sensitive_type"]): float(row["sqnr"])
        for row in found
        if row["quant_dtype"] == "int16" or row["sensitive_type"] == "weight"
    }
    common = {key: errors for key, errors in peer.items() if key in figures}
    compared = 0
    worst = 0.0
    for key, errors in common.items():
        if min(errors.sqnr, figures[key]) > COMPARED_BELOW_DB:
            continue
        compared += 1
        difference = abs(errors.sqnr - figures[key])
        agree(
            difference <= TOLERANCE_DB,
            f"{key}: {errors.sqnr:.2f} dB in PyTorch, {figures[key]:.2f} here",
        )
        worst = max(worst, difference)
    agree(compared >= 40, f"only {compared} rows have the same names")
    return (
        f"{compared} rows of the same name below {COMPARED_BELOW_DB:g} dB differ by at most {worst:.2f} dB; "
        f"{len(found)} rows here, {len(peer)} in PyTorch"
    )


def sensitivity(files: Model) -> dict[tuple[str, str], Errors]:
    """Every row, by name and kind."""
    graph = OnnxGraph(files.onnx)
    batches = [batch[graph.input] for batch in files.calibration()]
    calibration = Calibration(MinMax)
    for x in batches:
        graph.forward(x, calibration, Observe({}), quantized=False)
    visit = Validation(calibration.ranges())
    baseline = [graph.forward(x, untouched, float_linear, quantized=False) for x in batches]

    def at_output(one: Visit, linear: RunLinear) -> Errors:
        errors = Errors()
        for x, reference in zip(batches, baseline, strict=True):
            errors.add(reference, graph.forward(x, one, linear, quantized=False))
        return errors

    rows = {(name, "activation"): Only(visit, name) for name, _ in calibration.ranges()}
    return {key: at_output(only, visited_linear) for key, only in rows.items()} | {
        (name, "weight"): at_output(untouched, OneWeight(name)) for name in graph.layers
    }
