"""Runs the program over written cases: `python -m reference_models.program DUAL16 CASES --jobs 2`.

CASES is what `python -m reference_models` wrote. A case is right when `quantize --save-outputs` ends with 0 and
its float outputs are those expected, or with 2 and a message that names a node, an operator, an input or a
constant of the model. Anything else is told, and the exit code is 1.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

import ml_dtypes  # noqa: F401  (numpy learns bfloat16 and the small types from it)
import numpy as np
from safetensors.numpy import load_file

SECONDS = 120
PASSED, REFUSED, WRONG = "passed", "refused", "wrong"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=pathlib.Path, help="dual16")
    parser.add_argument("cases", type=pathlib.Path, help="folder with GROUP/CASE")
    parser.add_argument("--jobs", type=int, default=2, help="cases run at once")
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.cases.glob("*/*/case.json"))
    if not folders:
        parser.error(f"{arguments.cases}: no GROUP/CASE/case.json below it")
    program = arguments.program.resolve()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        ended = list(pool.map(lambda folder: outcome(program, folder), folders))
    for folder, (kind, reason) in zip(folders, ended, strict=True):
        if kind == WRONG:
            print(f"{folder.parent.name}/{folder.name}: {reason}")
    counts = collections.Counter(kind for kind, _ in ended)
    print(f"{counts[PASSED]} passed, {counts[REFUSED]} refused by name, {counts[WRONG]} wrong, of {len(folders)}")
    sys.exit(counts[WRONG] > 0)


def outcome(program, folder):
    """What became of a case, and why."""
    about = json.loads((folder / "case.json").read_text())
    batches = [folder / f"batch_{index}.safetensors" for index in range(about["batches"])]
    with tempfile.TemporaryDirectory() as work:
        out, calibration = pathlib.Path(work, "out"), pathlib.Path(work, "calib")
        calibration.mkdir()
        for batch in batches:
            (calibration / batch.name).symlink_to(batch.resolve())
        command = [program, "quantize", folder / "model.onnx", "--calib", calibration, "--out", out]
        command += ["--min-output-sqnr", "0", "--save-outputs"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return WRONG, f"no end within {SECONDS} s"
        if run.returncode == 2:
            named = any(name and name in run.stderr for name in about["names"])
            return (REFUSED, "") if named else (WRONG, f"refused without a name: {run.stderr.strip()}")
        if run.returncode != 0:
            return WRONG, f"exit code {run.returncode}: {run.stderr.strip()}"
        reason = None if about["random"] else difference(out, folder, about)
        return (WRONG, reason) if reason else (PASSED, "")


def difference(out, folder, about):
    """How the float outputs are not those expected; None where they are."""
    saved = load_file(out / "outputs.safetensors")
    for batch in range(about["batches"]):
        for name, expected in load_file(folder / f"expected_{batch}.safetensors").items():
            found = of_batch(saved, f"{name}.float", batch, about["batches"])
            if found is None or found.shape != expected.shape:
                return f"{name}: {None if found is None else found.shape} instead of {expected.shape}"
            if not close(found, expected, about["rtol"], about["atol"]):
                return f"{name}: other values than expected"
    return None


def of_batch(saved, name, batch, batches):
    """docs/formats.md: all batches in one tensor, or one each where their shapes differ."""
    own = saved.get(f"{name}.{batch:04}")
    if own is not None:
        return own
    together = saved.get(name)
    return together[batch] if together is not None and len(together) == batches else None


def close(found, expected, rtol, atol):
    if expected.dtype.kind in "iub":
        return np.array_equal(found.astype(np.int64), expected.astype(np.int64))
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    finite = np.abs(expected[np.isfinite(expected)])
    largest = finite.max() if finite.size else 0.0
    return np.allclose(found, expected, rtol=rtol, atol=atol * largest, equal_nan=True)


if __name__ == "__main__":
    main()
