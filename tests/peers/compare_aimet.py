"""AIMET's simulation of a model and its analysis of sensitivity, on the same batches.

Its simulation quantizes weights to int8 and activations to int16 and is measured by the SQNR of its output, as
onnxruntime's is in `static`. Its analysis switches the quantizers of one layer after the other on and runs the
whole model; dual16's `analyze --exact all` has rows for weights and activations apart, for constants and for
tables, and seven metrics of each.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime as ort
from aimet_onnx.quant_analyzer import QuantAnalyzer
from aimet_onnx.quantsim import QuantizationSimModel
from torch import from_numpy

from .cluster import Cluster, Results
from .compare_static import NO_REPLACEMENT, Arrays, output, session, skipped
from .context import Context, agree
from .metrics import Sqnr
from .places import Missing, Model
from .report import Row, speed
from .timing import in_turns, once

MODELS = ("smallmodel", "minilm")


def compare(context: Context) -> list[Row]:
    for name in (None, "Quant"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rows: list[Row] = []
    for name in MODELS:
        try:
            rows += compare_model(context, context.places.model(name))
        except Missing as missing:
            rows.append(skipped("AIMET's simulation", name, missing))
    return rows


def compare_model(context: Context, model: Model) -> list[Row]:
    batches = [{name: x.numpy() for name, x in batch.items()} for batch in model.calibration()]
    judge = Judge(model, batches, context.threads)
    simulated: dict[str, float] = {}
    analysed: dict[str, float] = {}
    ours: dict[str, Results] = {}

    def simulate() -> None:
        sim = simulation(model, batches, context.threads)
        simulated["output"] = judge(sim.session)

    def analyse() -> None:
        sim = simulation(model, batches, context.threads)
        analyzer = QuantAnalyzer(onnx.load(model.onnx), batches[0], lambda ran: judge(ran), judge)
        analysed.update(analyzer.perform_per_layer_analysis_by_enabling_quantizers(sim))

    def quantize() -> float:
        with Cluster(context.places, context.scratch, workers=1, tasks=context.threads) as cluster:
            ours["quantize"] = cluster.quantize(model, model.calibration_dir, *NO_REPLACEMENT)
        return ours["quantize"].seconds

    def analyze() -> float:
        with Cluster(context.places, context.scratch, workers=1, tasks=context.threads) as cluster:
            ours["analyze"] = cluster.analyze(model, model.calibration_dir, "--exact", "all")
        return ours["analyze"].seconds

    sim, plain, analyzer, table = in_turns(
        context.job_rounds, lambda: once(simulate), quantize, lambda: once(analyse), analyze
    )
    agree(bool(analysed), "AIMET analysed no layer")
    rows = len((ours["analyze"].folder / "sensitivity.csv").read_text().splitlines()) - 1
    return [
        speed(
            f"{model.name}, int8 weights and int16 activations, every layer",
            f"AIMET: simulation, encodings, SQNR of {len(batches)} batches",
            sim,
            plain,
            f"output SQNR {simulated['output']:.1f} dB in AIMET, {ours['quantize'].output():.1f} here",
        ),
        speed(
            f"{model.name}: what each quantizer alone costs the output",
            "AIMET's analysis, layer by layer",
            analyzer,
            table,
            f"{len(analysed)} layers and one metric in AIMET; {rows} rows and 7 metrics here",
        ),
    ]


def simulation(model: Model, batches: Iterable[Arrays], threads: int) -> QuantizationSimModel:
    sim = QuantizationSimModel(
        onnx.load(model.onnx),
        param_type="int8",
        activation_type="int16",
        quant_scheme="min_max",
        providers=["CPUExecutionProvider"],
        session_options_kwargs={"intra_op_num_threads": threads},
    )
    sim.compute_encodings(batches)
    return sim


class Judge:
    """SQNR of a session's output over the batches."""

    def __init__(self, model: Model, batches: list[Arrays], threads: int) -> None:
        self.batches = batches
        self.reference = session(model.onnx, threads)

    def __call__(self, ran: ort.InferenceSession) -> float:
        total = Sqnr()
        for batch in self.batches:
            total.add(output(self.reference, batch), from_numpy(np.asarray(ran.run(None, batch)[0])))
        return total.db
