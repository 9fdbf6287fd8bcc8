"""The package itself: what is generated is current, types hold, and a wheel has it all."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from conftest import SMALL

import dual16

HERE = Path(__file__).resolve().parents[1]
WITH_TORCH = importlib.util.find_spec("torch") is not None


def run(*command: str | Path, folder: Path = HERE, **variables: str) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_what_is_generated_is_of_these_protos(tmp_path: Path) -> None:
    run(sys.executable, HERE / "generate.py", tmp_path)
    committed = HERE / "src/dual16/v1"
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (committed / made.name).read_bytes(), f"{made.name} is old: run generate.py"


def test_every_field_of_a_spec_has_a_setting() -> None:
    from dual16 import v1

    settings = dual16.Settings(
        linear={"a": "split"}, dtype={"a": "int8"}, fixed_scale={"a": 0.5}, layer_observer={"a": "mse"},
        high_precision=["a"], operator={"a": "dot"}, template="a8w8", observer="mse", percentile=99.0, merge="ema", toolchain="oe-3.2",
        march="nash-e", rounding="floor", scale_rule="threshold", power_of_two=True, min_layer_sqnr=0.0,
        min_output_sqnr=0.0, output_target={"y": ("cosine", 0.9)}, chip="[nash-m]", freeze_integers=True,
        allow_fp16=True, strict=True, keep_statistics=True, save_outputs=True,
    )  # fmt: skip
    spec = settings.spec()
    assert {field.name for field, _ in spec.ListFields()} == {field.name for field in v1.QuantizeSpec.DESCRIPTOR.fields}
    values = [field.name for field in v1.LayerSetting.DESCRIPTOR.oneofs_by_name["value"].fields]
    assert [setting.WhichOneof("value") for setting in spec.settings] == values


def test_types() -> None:
    # Without PyTorch modules of it have no types.
    files = ["src", "tests", "examples", "generate.py"] if WITH_TORCH else ["src", "generate.py"]
    run(sys.executable, "-m", "mypy", "--cache-dir", os.devnull, *files)


def test_a_wheel_in_an_empty_environment_works_without_a_server_and_with_one(
    tmp_path: Path, client: dual16.Client
) -> None:
    wheel = build(tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    assert "dual16/py.typed" in names and "dual16/v1/api.binpb" in names
    assert {name.split("/")[0].removeprefix("dual16-0.1.0.") for name in names} == {"dual16", "data", "dist-info"}
    assert not [name for name in names if "__pycache__" in name]

    empty = tmp_path / "venv"
    venv.create(empty, with_pip=True)
    python = empty / "bin/python"
    # What it depends on is taken from here, for an index may be out of reach.
    (site,) = empty.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)

    assert "quantize" in run(empty / "bin/dual16", "--help")
    quick_start = (
        "import os, sys, dual16\n"
        "url, token = sys.argv[3:] or (None, None)\n"
        "client = dual16.Client(url, token) if url else None\n"
        "result = dual16.quantize(sys.argv[1], sys.argv[2], client=client)\n"
        "dual16.testing.assert_sqnr(result, 45)\n"
        "print(dual16.__file__, result)"
    )
    # Neither this source nor its program.
    clean = {"PYTHONPATH": "", "DUAL16_PROGRAM": ""}
    inputs = (SMALL / "model.onnx", SMALL / "calib")
    alone = run(python, "-c", quick_start, *inputs, folder=tmp_path, **clean)
    assert alone.startswith(str(site)) and "y 45.4 dB" in alone
    token = dict(client._wire._metadata)["authorization"].removeprefix("Bearer ")
    assert "y 45.4 dB" in run(python, "-c", quick_start, *inputs, client.url, token, folder=tmp_path, **clean)


def build(tmp_path: Path) -> Path:
    """The README's command, but that the program is there already and need not run on older systems."""
    commands = re.findall(r"^maturin (build .*)$", (HERE / "README.md").read_text(), re.MULTILINE)
    (arguments,) = (command.split() for command in commands)
    arguments[arguments.index("../../dist")] = str(tmp_path)
    cargo = tmp_path / "cargo"
    cargo.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "tests/prebuilt_cargo.py"}" "$@"\n')
    cargo.chmod(0o755)
    real = shutil.which("cargo")
    assert real, "cargo is not on the path"
    maturin = Path(sys.executable).parent / "maturin"
    extra = ("--compatibility", "linux", "--offline", "--target-dir", str(tmp_path / "target"))
    # A copy: maturin moves for a moment what was built, and others use it.
    program = shutil.copy(os.environ["DUAL16_PROGRAM"], tmp_path / "dual16")
    variables = {"CARGO": str(cargo), "REAL_CARGO": real, "DUAL16_PROGRAM": str(program)}
    run(maturin, *arguments, *extra, folder=HERE, **variables)
    (wheel,) = tmp_path.glob("*.whl")
    return wheel
