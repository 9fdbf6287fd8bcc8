"""Opens the files of each case in their tools: `python -m handoff FOLDER`."""

import pathlib
import subprocess
import sys

import numpy as np
import onnx
from safetensors.numpy import load_file

from . import settings
from .case import about, batches, decibels, distance, run

# What onnxruntime makes of model_qdq.onnx beside our VALIDATION, in dB.
LEAST_DB = 60.0
NEWEST_OPSET, NEWEST_IR = 19, 9


def main(folder):
    wrong = []
    for stated in sorted(folder.glob("*/case.json")):
        case = stated.parent
        try:
            told, found = check(case, about(case))
        except Exception as error:  # noqa: BLE001 - onnxruntime has no common base of what it raises
            told, found = "", [f"{type(error).__name__}: {error}"]
        print(f"{case.name}: {told}")
        wrong += [f"{case.name}: {one}" for one in found]
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)


def check(case, stated):
    given = batches(case)
    mended, quantized = case / "handoff/mended.onnx", case / "handoff/model_qdq.onnx"
    wrong = []
    for path in (mended, quantized):
        onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(mended, load_external_data=False)
    opset = {entry.domain: entry.version for entry in model.opset_import}[""]
    if opset > NEWEST_OPSET or model.ir_version > NEWEST_IR:
        wrong.append(f"mended.onnx has opset {opset} and IR {model.ir_version}")
    operators = {node.op_type for node in model.graph.node}
    wrong += [f"mended.onnx has no {op}" for op in stated["operators"] if op not in operators]

    source, floats, fake = run(case / "model.onnx", given), run(mended, given), run(quantized, given)
    ours = load_file(case / "outputs.safetensors")
    apart, least, own = 0.0, np.inf, np.inf
    for index, outputs in enumerate(source):
        for name, value in outputs.items():
            apart = max(apart, distance(floats[index][name], value))
            least = min(least, decibels(fake[index][name], ours[f"{name}.validation"][index]))
            own = min(own, decibels(fake[index][name], value))
    if not apart <= stated["tolerance"]:
        wrong.append(f"mended.onnx is {apart:.2e} from the model, {stated['tolerance']:.0e} at most")
    wanted, beside = LEAST_DB, ""
    if stated["chaotic"]:
        # A last bit that turns one rounding can turn many after it: no two engines are nearer than one of
        # them is to itself when it sums in another order.
        optimized = run(quantized, given, optimized=True)
        pairs = zip(fake, optimized, strict=True)
        itself = min(decibels(b[name], a[name]) for a, b in pairs for name in a)
        wanted, beside = min(wanted, itself), f", {itself:.1f} beside itself when optimized"
    if not least >= wanted:
        wrong.append(f"model_qdq.onnx has {least:.1f} dB beside VALIDATION, {wanted} at least{beside}")
    wrong += settings.check(case, model)
    wrong += board(case, given[0])
    return f"mended {apart:.1e}; qdq {least:.1f} dB beside VALIDATION, {own:.1f} beside float{beside}", wrong


def board(case, batch):
    """A board that dumped what model_qdq.onnx computes, and one whose output is three steps off."""
    dumped, inputs = case / "board", case / "batch.npz"
    dumped.mkdir(exist_ok=True)
    np.savez(inputs, **batch)
    (outputs,) = run(case / "handoff/model_qdq.onnx", [batch])
    name, value = next(iter(outputs.items()))
    command = [sys.executable, case / "handoff/from_board.py", "--from-board", dumped, "--inputs", inputs]
    model = onnx.load(case / "handoff/model_qdq.onnx", load_external_data=False)
    scales = {tensor.name: tensor for tensor in model.graph.initializer}
    made = [node for node in model.graph.node if name in node.output][0]
    step = max(float(np.abs(value).max()) / 32767.5, 2.0**-23)
    if made.op_type == "DequantizeLinear":
        step = float(onnx.numpy_helper.to_array(scales[made.input[1]]))
    found = []
    for shift, code, said in [(0.0, 0, "none further apart"), (3.0, 1, f"they part at '{name}'")]:
        np.save(dumped / f"{name}.npy", value + np.float32(shift * step))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != code or said not in done.stdout:
            found.append(f"from_board.py, {shift} steps off: {done.returncode} {done.stdout}{done.stderr}")
    return found


main(pathlib.Path(sys.argv[1]))
