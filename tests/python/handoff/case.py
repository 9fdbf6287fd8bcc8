"""A case on disk: `model.onnx`, `eval.safetensors`, what a job left (`outputs.safetensors`, `handoff/`) and
`case.json`: how far `mended.onnx` may be from the model, relative to the largest value of an output."""

import json

import numpy as np
import onnxruntime as ort
from safetensors.numpy import load_file

# Batches of a file that are looked at.
MOST = 3


def about(case):
    return json.loads((case / "case.json").read_text())


def session(path, optimized=False):
    """The model in onnxruntime as it is written, nothing optimized; or as onnxruntime has it by default."""
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def batches(case):
    """The inputs of each measured batch: a file may have several, stacked."""
    arrays = load_file(case / "eval.safetensors")
    inputs = session(case / "model.onnx").get_inputs()
    stacked = any(arrays[value.name].ndim > len(value.shape) for value in inputs)
    if not stacked:
        return [{value.name: arrays[value.name] for value in inputs}]
    count = min(MOST, len(arrays[inputs[0].name]))
    return [{value.name: arrays[value.name][index] for value in inputs} for index in range(count)]


def run(path, batches, optimized=False):
    """The outputs of each batch, by name."""
    model = session(path, optimized)
    names = [output.name for output in model.get_outputs()]
    return [dict(zip(names, model.run(names, batch), strict=True)) for batch in batches]


def distance(got, wanted):
    """Relative to the largest value."""
    if got.shape != wanted.shape:
        return np.inf
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    return np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-30)


def decibels(got, wanted):
    if got.shape != wanted.shape:
        return -np.inf
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    error = np.square(got - wanted).sum()
    return np.inf if error == 0 else 10 * np.log10(np.square(wanted).sum() / error)
