"""Where models and dual16's programs are, and what to do where they are not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]


class Missing(Exception):
    """Something to run or to read is not there; the message says how to get it."""


@dataclass(frozen=True)
class Model:
    name: str
    folder: Path

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def calibration_dir(self) -> Path:
        return self.folder / "calib"

    @property
    def evaluation_file(self) -> Path:
        return self.folder / "eval.safetensors"

    def calibration(self) -> list[dict[str, Tensor]]:
        return [load_file(path) for path in sorted(self.calibration_dir.glob("*.safetensors"))]


@dataclass(frozen=True)
class Places:
    target: Path
    """Cargo's folder."""
    models: Path | None
    bin_dir: Path
    probe: Path

    def model(self, name: str) -> Model:
        folders = [self.models / name] if self.models else []
        for folder in [*folders, ROOT / "tests/data" / name]:
            if (folder / "model.onnx").is_file():
                return Model(name, folder)
        raise Missing(f"{name}/model.onnx is neither in --models nor in tests/data")

    def program(self, name: str) -> Path:
        return present(self.bin_dir / name)

    def kernel_probe(self) -> Path:
        return present(self.probe)


def present(path: Path) -> Path:
    if not path.is_file():
        raise Missing(f"{path} is missing: run tests/peers/run --build, or see --bin-dir and --probe")
    return path
