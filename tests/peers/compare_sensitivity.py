"""A plugin-like sensitivity pass: one Linear quantized at a time, the error at the model's output.

dual16 has no such pass. What it has for the same purpose, to find the layers that int8 hurts, is the
isolated error of each layer at that layer's own output, from one float run a batch. That is another
question with a cheaper answer, so the ratio is between two ways to decide, not of the same work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .cluster import Cluster, Results
from .compare_static import NO_REPLACEMENT
from .context import Context
from .fake_quant import INT8, INT16
from .linears import Observe, float_linear
from .metrics import Sqnr
from .observers import MinMax
from .onnx_graph import OnnxGraph
from .places import Missing, Model
from .report import Row, speed
from .states import Calibration, Only, Validation, Visit, untouched
from .timing import in_turns, once
from .ways import Gemm, Layer


@dataclass(frozen=True)
class OneWeight:
    """Only this layer's weight is int8."""

    name: str

    def __call__(self, layer: Layer, x: Tensor, visit: Visit) -> Tensor:
        if layer.name != self.name:
            return layer.float(x)
        return Gemm(layer, INT16, INT8).run(x, visit)


def compare(context: Context) -> list[Row]:
    rows: list[Row] = []
    for name in ("smallmodel", "minilm"):
        try:
            rows.append(compare_model(context, context.places.model(name)))
        except Missing as missing:
            if name == "smallmodel":
                raise
            rows.append(
                Row(f"sensitivity of {name}", "–", "not run", "not run", "–", "–", None, str(missing))
            )
    return rows


def compare_model(context: Context, model: Model) -> Row:
    peer: dict[str, float] = {}
    ours: list[Results] = []

    def dual16() -> float:
        with Cluster(context.places, context.scratch, workers=1, tasks=context.threads) as cluster:
            ours.append(cluster.quantize(model, model.calibration_dir, *NO_REPLACEMENT))
        return ours[-1].seconds

    theirs, ours_times = in_turns(
        context.job_rounds, lambda: once(lambda: peer.update(sensitivity(model))), dual16
    )
    isolated = {layer: db for (layer, _), db in ours[-1].isolated().items()}
    worst_there, worst_here = min(peer, key=lambda n: peer[n]), min(isolated, key=lambda n: isolated[n])
    return speed(
        f"{model.name}: which of {len(isolated)} Linears int8 hurts most",
        "PyTorch, output and weight of one Linear at a time",
        theirs,
        ours_times,
        f"NOT the same work: {worst_there} at the model's output, {worst_here} at its own (dual16)",
    )


def sensitivity(files: Model) -> dict[str, float]:
    """SQNR in dB at the model's output, of each Linear's worse row: activation or weight."""
    graph = OnnxGraph(files.onnx)
    batches = [batch[graph.input] for batch in files.calibration()]
    calibration = Calibration(MinMax)
    for x in batches:
        graph.forward(x, calibration, Observe({}), quantized=False)
    visit = Validation(calibration.ranges())
    baseline = [graph.forward(x, untouched, float_linear, quantized=False) for x in batches]

    def at_output(one: Visit, linear: Callable[[Layer, Tensor, Visit], Tensor]) -> float:
        total = Sqnr()
        for x, reference in zip(batches, baseline, strict=True):
            total.add(reference, graph.forward(x, one, linear, quantized=False))
        return total.db

    return {
        name: min(
            at_output(Only(visit, name), visited_linear),
            at_output(untouched, OneWeight(name)),
        )
        for name in graph.layers
    }


def visited_linear(layer: Layer, x: Tensor, visit: Visit) -> Tensor:
    return visit(layer.name, layer.float(x))
