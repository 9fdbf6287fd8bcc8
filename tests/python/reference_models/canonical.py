"""Runs the canonical form of each case in onnxruntime: `python -m reference_models.canonical FOLDER`.

Beside a case's `model.onnx` lies `canonical.onnx`, if nothing of it needs a kernel of our own. It must give
what the model gave, to 1e-5 where the model computes in f32."""

import json
import pathlib
import sys

import numpy as np
import onnx
from safetensors.numpy import load_file

from .case import TOLERANCE, session

CLOSE = 1e-5
# Of the forms so many of a hundred must have been run.
LEAST_RUN = 60
FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
}
WHOLE = {
    onnx.TensorProto.INT64,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.BOOL,
}


def main(folder):
    run, skipped, wrong = 0, 0, []
    for path in sorted(folder.glob("*/*/canonical.onnx")):
        difference = compare(path.parent)
        if difference is None:
            skipped += 1
            continue
        run += 1
        wrong += [f"  {path.parent.parent.name}/{path.parent.name}: {one}" for one in difference]
    wrong += ["  too few of them could be run"] if run * 100 < LEAST_RUN * (run + skipped) else []
    print("\n".join(wrong), file=sys.stderr)
    print(f"canonical forms: {run} run, {skipped} skipped, {len(wrong)} different", file=sys.stderr)
    sys.exit(1 if wrong else 0)


def compare(case):
    """What differs; None where onnxruntime cannot run the form in these types."""
    about = json.loads((case / "case.json").read_text())
    form, inputs = onnx.load(case / "canonical.onnx"), {}
    for value in onnx.load(case / "model.onnx").graph.input:
        inputs[value.name] = value.type.tensor_type.elem_type
    if any(elem not in FLOATS | WHOLE for elem in inputs.values()):
        return None
    for value in form.graph.input:
        elem = inputs[value.name]
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT if elem in FLOATS else elem
    plain = not FLOATS & set(inputs.values()) - {onnx.TensorProto.FLOAT}
    close = (about["rtol"], about["atol"])
    if plain and close == TOLERANCE:
        close = (CLOSE, CLOSE)
    try:
        running = session(form)
        made = []
        for index in range(about["batches"]):
            batch = load_file(case / f"batch_{index}.safetensors")
            given = {value.name: typed(batch[value.name]) for value in form.graph.input}
            names = [output.name for output in form.graph.output]
            made.append(dict(zip(names, running.run(names, given), strict=True)))
    except Exception:  # noqa: BLE001 - onnxruntime has no common base of what it raises
        return None
    wrong = []
    for index, outputs in enumerate(made):
        expected = load_file(case / f"expected_{index}.safetensors")
        for name, value in outputs.items():
            if name in expected and isinstance(value, np.ndarray):
                wrong += difference(name, value, expected[name], *close)
    return wrong


def typed(array):
    return array.astype(np.float32) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array


def difference(name, got, wanted, rtol, atol):
    if got.shape != wanted.shape:
        return [f"{name} has shape {got.shape} instead of {wanted.shape}"]
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    finite = wanted[np.isfinite(wanted)]
    amax = np.abs(finite).max() if finite.size else 0.0
    if np.allclose(got, wanted, rtol=rtol, atol=atol * amax, equal_nan=True):
        return []
    return [f"{name} differs by {np.nanmax(np.abs(got - wanted))} of {amax}"]


main(pathlib.Path(sys.argv[1]))
