"""onnxruntime's quantize_static: QDQ, int8 weights per channel, int16 activations, the same batches.

Not quite the same work: onnxruntime quantizes one way and runs the result in its own kernels;
dual16 measures each layer, replaces those that int8 hurts, and runs the whole model twice. So the
SQNRs stand beside the times: for dual16 with replacement off, which is onnxruntime's question, and
as it is without a flag.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, from_numpy

from .cluster import Cluster, Results
from .context import Context
from .metrics import Sqnr
from .places import Missing, Model
from .report import Row, speed
from .timing import in_turns, once

# Folders of models, and how many times as fast dual16 is to be. The encoders are made by
# `make_encoder.py 12 384 128 16` (85 MB) and `12 768 128 4` (340 MB).
TARGETS = {"smallmodel": 1.5, "minilm": 3.0, "encoder_85": 3.0, "encoder_340": 3.0}
NO_REPLACEMENT = ("--min-layer-sqnr", "-1000")

Arrays = dict[str, NDArray[np.float32]]


class Batches:
    """What onnxruntime calls a CalibrationDataReader."""

    def __init__(self, batches: list[Arrays]) -> None:
        self.batches: Iterator[Arrays] = iter(batches)

    def get_next(self) -> Arrays | None:
        return next(self.batches, None)


def compare(context: Context) -> list[Row]:
    logging.getLogger().setLevel(logging.ERROR)
    rows: list[Row] = []
    for name in TARGETS:
        try:
            model = context.places.model(name)
        except Missing as missing:
            if name == "smallmodel":
                raise
            rows.append(skipped("quantize_static", name, missing))
            continue
        rows += compare_model(context, model)
    return rows


def skipped(what: str, name: str, missing: Missing) -> Row:
    return Row(f"{what} of {name}", "–", "not run", "not run", "–", "–", None, str(missing))


def compare_model(context: Context, model: Model) -> list[Row]:
    sqnr: dict[str, float] = {}
    ours: dict[bool, Results] = {}

    def dual16(*, replace: bool) -> float:
        flags = () if replace else NO_REPLACEMENT
        with Cluster(context.places, context.scratch, workers=1, tasks=context.threads) as cluster:
            ours[replace] = cluster.quantize(model, model.calibration_dir, *flags)
        return ours[replace].seconds

    peer, plain, replaced = in_turns(
        context.job_rounds,
        lambda: once(lambda: sqnr.update(quantized(model, context))),
        lambda: dual16(replace=False),
        lambda: dual16(replace=True),
    )
    runtime = f"onnxruntime quantize_static + SQNR of {len(model.calibration())} batches"
    work = f"{model.name}, int8 weights and int16 activations"
    output = f"output SQNR {sqnr['output']:.1f} dB in onnxruntime"
    return [
        speed(
            f"{work}, every layer",
            runtime,
            peer,
            plain,
            f"{output}, {ours[False].output():.1f} here",
            TARGETS[model.name],
        ),
        speed(
            f"{work}, poor layers replaced",
            runtime,
            peer,
            replaced,
            f"{output}, {ours[True].output():.1f} here",
        ),
    ]


def quantized(model: Model, context: Context) -> dict[str, float]:
    """Quantizes, and compares with the float model on the calibration batches."""
    prepared, result = (context.scratch / f"{model.name}.{kind}.onnx" for kind in ("prepared", "qdq"))
    batches = [{name: x.numpy() for name, x in batch.items()} for batch in model.calibration()]
    quant_pre_process(model.onnx, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        result,
        Batches(batches),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt16,
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )
    total = Sqnr()
    reference, got = (session(path, context.threads) for path in (model.onnx, result))
    for batch in batches:
        total.add(output(reference, batch), output(got, batch))
    return {"output": total.db}


def session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def output(session: ort.InferenceSession, batch: Arrays) -> Tensor:
    (y,) = session.run(None, batch)
    return from_numpy(y)
