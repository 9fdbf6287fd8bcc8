"""minilm: every legal way of all 36 Linears, choice, validation of the whole model, converted weights.

PyTorch calibrates once, keeps every layer's input and output, measures each way on them, and
validates by fake quantization. dual16 does more for its time: it also measures a16w16, which is not
legal, and validates a second time in integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from safetensors.torch import save_file

from .cluster import Cluster, Results
from .context import Context, agree
from .linears import Observe, Quantized, choose, float_linear, isolated
from .metrics import Sqnr
from .observers import MinMax
from .onnx_graph import OnnxGraph
from .places import Model
from .report import Row, speed
from .states import Calibration, Validation, untouched
from .timing import in_turns, once
from .ways import legal_ways

INPUT = "hidden"
TARGET = 10.0
# dual16 measures a layer in integers. Fake quantization has no requantization, whose rounding shows where
# little else does: in split, above 55 dB.
TOLERANCE_DB = {"a16w8": 0.2, "a8w16": 0.2, "mul_sum": 0.5, "split": 2.0}
EVERY_WAY = ("--linear", "*=auto")


@dataclass
class Measured:
    isolated: dict[tuple[str, str], float] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    output_db: float = math.nan


def compare(context: Context) -> list[Row]:
    model = context.places.model("minilm")
    peer: list[Measured] = []
    ours: list[Results] = []
    with Cluster(context.places, context.scratch, workers=1, tasks=context.threads):
        pass  # Programs are there and start: better known before minutes of PyTorch.

    def run_dual16() -> float:
        with Cluster(context.places, context.scratch, workers=1, tasks=context.threads) as cluster:
            ours.append(cluster.quantize(model, model.calibration_dir, *EVERY_WAY))
        return ours[-1].seconds

    theirs, ours_times = in_turns(
        context.job_rounds, lambda: once(lambda: peer.append(pytorch(model, context))), run_dual16
    )
    work = "minilm: 36 Linears × all legal ways, validate, convert, 8 batches"
    return [
        speed(
            work, "the same measurements in PyTorch", theirs, ours_times, checked(peer[-1], ours[-1]), TARGET
        )
    ]


def checked(peer: Measured, ours: Results) -> str:
    our_isolated, our_chosen = ours.isolated(), ours.chosen()
    worst = dict.fromkeys(TOLERANCE_DB, 0.0)
    for (layer, way), db in peer.isolated.items():
        ours_db = our_isolated[layer, way]
        difference = abs(db - ours_db)
        agree(difference <= TOLERANCE_DB[way], f"{layer}, {way}: {db:.2f} dB in PyTorch, {ours_db:.2f} here")
        worst[way] = max(worst[way], difference)
    same = sum(way == our_chosen[layer] for layer, way in peer.chosen.items())
    agree(same == len(peer.chosen), f"{same} of {len(peer.chosen)} layers got the same way")
    differences = ", ".join(f"{way} {db:.2f}" for way, db in worst.items())
    return (
        f"isolated SQNRs differ at most by dB: {differences}; all choices equal; "
        f"output {ours.output():.1f} dB, PyTorch {peer.output_db:.1f}"
    )


def pytorch(files: Model, context: Context) -> Measured:
    graph = OnnxGraph(files.onnx)
    batches = [batch[INPUT] for batch in files.calibration()]
    ways = {name: legal_ways(layer) for name, layer in graph.layers.items()}
    calibration, observe = Calibration(MinMax), Observe(ways)
    for x in batches:
        graph.forward(x, calibration, observe, quantized=False)
    visit = Validation(calibration.ranges())

    measured = Measured()
    chosen = {}
    for name, candidates in ways.items():
        figures = isolated(name, graph.scale_of_input(name), candidates, observe.captured[name], visit)
        measured.isolated |= {(name, way): db for way, db in figures.items()}
        measured.chosen[name] = choose(figures, candidates)
        chosen[name] = candidates[measured.chosen[name]]

    total = Sqnr()
    for x in batches:
        reference = graph.forward(x, untouched, float_linear, quantized=False)
        quantized = Quantized(chosen, last=graph.output)
        total.add(reference, graph.forward(x, visit, quantized, quantized=True))
    measured.output_db = total.db

    integers = {
        f"{name}.{key}": t.contiguous() for name, way in chosen.items() for key, t in way.integers().items()
    }
    save_file(integers, context.scratch / "converted.safetensors")
    return measured
