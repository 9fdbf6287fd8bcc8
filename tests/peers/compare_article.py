"""The article's job: smallmodel, MSE observers, 8 batches, linear2 in each of five ways.

Two shapes of the same job, each against the same shape of the other side:

- one job: calibrate once for all five ways, measure each alone, choose, validate the whole model;
- five runs, as the article's reader makes them: for each way its own calibration and its own
  validation of the whole model.

The script reads model and batches, as dual16 does; its imports are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from .cluster import Cluster, Results
from .context import Context, agree
from .fake_quant import INT8, INT16
from .linears import Observe, Quantized, choose, isolated
from .metrics import Sqnr
from .observers import Mse
from .places import Model
from .report import Row, speed
from .small_model import SmallModel
from .states import Calibration, Validation, untouched
from .timing import in_turns, once
from .ways import Gemm, Way, five_ways, legal_ways

LAYER = "linear2"
TARGET = 20.0
TOLERANCE_DB = 0.1

Figures = dict[str, float]


def compare(context: Context) -> list[Row]:
    model = context.places.model("smallmodel")
    return [
        comparison(
            context,
            "article's job in one: MSE, 8 batches, five ways of linear2",
            "PyTorch, one calibration for all ways",
            lambda: one_job(model, context.scratch),
            lambda cluster: one_dual16_job(cluster, model),
        ),
        comparison(
            context,
            "article's job five times, a way each",
            "PyTorch, the article's script for each way",
            lambda: five_runs(model),
            lambda cluster: five_dual16_jobs(cluster, model),
        ),
    ]


def comparison(
    context: Context,
    work: str,
    against: str,
    peer: Callable[[], Figures],
    dual16: Callable[[Cluster], tuple[float, Figures]],
) -> Row:
    peer_figures: Figures = {}
    our_figures: Figures = {}

    def run_peer() -> float:
        return once(lambda: peer_figures.update(peer()))

    def run_dual16() -> float:
        with Cluster(context.places, context.scratch, workers=1, tasks=context.threads) as cluster:
            seconds, figures = dual16(cluster)
        our_figures.update(figures)
        return seconds

    theirs, ours = in_turns(context.job_rounds, run_peer, run_dual16)
    for way, db in peer_figures.items():
        difference = abs(db - our_figures[way])
        agree(
            difference <= TOLERANCE_DB,
            f"{work}: {way} is {db:.2f} dB in PyTorch, {our_figures[way]:.2f} here",
        )
    said = ", ".join(f"{way} {our_figures[way]:.1f}" for way in peer_figures)
    return speed(work, against, theirs, ours, f"dB within {TOLERANCE_DB} of PyTorch's: {said}", TARGET)


def one_job(files: Model, scratch: Path) -> Figures:
    model = SmallModel(files)
    batches = [batch["x"] for batch in files.calibration()]
    ways = five_ways(model.linear2)
    calibration, observe = Calibration(Mse), Observe({LAYER: ways})
    for x in batches:
        model.forward(x, calibration, observe, quantized=False)
    visit = Validation(calibration.ranges())
    measured = isolated(LAYER, "relu", ways, observe.captured[LAYER], visit)
    legal = legal_ways(model.linear2)
    best = choose({name: measured[name] for name in legal}, ways)
    chosen = others(model) | {LAYER: ways[best]}
    validate(model, visit, chosen, batches)
    tensors = {
        f"{name}.{key}": t.contiguous() for name, way in chosen.items() for key, t in way.integers().items()
    }
    save_file(tensors, scratch / "converted.safetensors")
    return measured


def five_runs(files: Model) -> Figures:
    figures: Figures = {}
    for name in five_ways(SmallModel(files).linear2):
        # A script of its own for every way: nothing is shared.
        model = SmallModel(files)
        batches = [batch["x"] for batch in files.calibration()]
        way = five_ways(model.linear2)[name]
        calibration = Calibration(Mse)
        for x in batches:
            model.forward(x, calibration, Observe({LAYER: {name: way}}), quantized=False)
        figures[name] = validate(
            model, Validation(calibration.ranges()), others(model) | {LAYER: way}, batches
        )
    return figures


def validate(model: SmallModel, visit: Validation, ways: dict[str, Way], batches: list[Tensor]) -> float:
    """SQNR in dB at linear2, the whole model fake-quantized."""
    total = Sqnr()
    for x in batches:
        reference = Observe({})
        model.forward(x, untouched, reference, quantized=False)
        quantized = Quantized(ways, last="linear3")
        model.forward(x, visit, quantized, quantized=True)
        ((_, expected),) = reference.captured[LAYER]
        total.add(expected, quantized.outputs[LAYER])
    return total.db


def others(model: SmallModel) -> dict[str, Way]:
    """The template's way for the layers that stay."""
    return {layer.name: Gemm(layer, INT16, INT8) for layer in (model.linear1, model.linear3)}


def one_dual16_job(cluster: Cluster, model: Model) -> tuple[float, Figures]:
    results = quantize(cluster, model, "auto")
    return results.seconds, {way: db for (layer, way), db in results.isolated().items() if layer == LAYER}


def five_dual16_jobs(cluster: Cluster, model: Model) -> tuple[float, Figures]:
    results = {way: quantize(cluster, model, way) for way in ("a16w8", "a8w16", "mul_sum", "split", "a16w16")}
    seconds = sum(job.seconds for job in results.values())
    return seconds, {way: job.accumulated(LAYER) for way, job in results.items()}


def quantize(cluster: Cluster, model: Model, way: str) -> Results:
    toolchain = "oe-3.2" if way == "a16w16" else "oe-3.1"
    return cluster.quantize(
        model,
        model.calibration_dir,
        "--observer",
        "mse",
        "--linear",
        f"{LAYER}={way}",
        "--toolchain",
        toolchain,
    )
