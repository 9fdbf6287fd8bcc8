"""A job's spec and files from a model and its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from . import batches, v1
from ._transfer import InputFile
from .batches import Data
from .models import Model, OnnxFiles, is_module, layers_file
from .settings import Settings

Priority = Literal["low", "normal", "high"]
"""Whose tasks go first. `high` needs the role `urgent` on a server that asks who is calling. Results are the same."""


@dataclass(frozen=True)
class Request:
    """What somebody asks for, in the terms of a program."""

    model: Model
    data: Data
    eval_data: Data | None = None
    settings: Settings | None = None
    max_batches: int | None = None
    deadline: int = 0
    name: str = ""
    priority: Priority = "normal"
    kind: v1.AnalyzeSpec | v1.PlanSpec | None = None
    """What is done instead of quantizing."""


@dataclass(frozen=True)
class Prepared:
    """What a job needs."""

    spec: v1.JobSpec
    files: list[InputFile]
    name: str
    """What people call it."""


def prepare(request: Request, folder: Path) -> Prepared:
    """Writes what is not a file yet into `folder`, and takes every digest."""
    if request.priority not in get_args(Priority):
        raise ValueError(f"priority is {request.priority!r}; it must be one of {', '.join(get_args(Priority))}")
    model, onnx = request.model, None
    if isinstance(model, (str, Path)):
        onnx = OnnxFiles(Path(model))
        calibration, measured = _write(request, onnx.inputs, folder)
    elif is_module(model):
        if isinstance(request.data, (str, Path)):
            raise TypeError("a module is exported with its batches; give the batches themselves, not their folder")
        from . import _export

        module = cast(Any, model)
        calibration, measured = _write(request, _export.input_names(module), folder)
        paths = [file.path for file in calibration.files]
        onnx = OnnxFiles(_export.export(module, paths, calibration.shapes, folder))
    elif hasattr(model, "items"):
        calibration, measured = _write(request, None, folder)
    else:
        raise TypeError(
            f"a model is an ONNX file, a torch.nn.Module or a mapping of layers, not {type(model).__name__}"
        )

    spec = v1.JobSpec(
        calibration=[file.message() for file in calibration.files],
        evaluation=[file.message() for file in measured.files],
        quantize=(request.settings or Settings()).spec(),
        deadline_seconds=request.deadline,
        analyze=request.kind if isinstance(request.kind, v1.AnalyzeSpec) else None,
        plan=request.kind if isinstance(request.kind, v1.PlanSpec) else None,
    )
    if onnx is None:
        files = [layers_file(cast(Any, model), folder)]
        spec.layers.CopyFrom(v1.LayerModel(weights=files[0].message()))
    else:
        message, files = onnx.message()
        spec.onnx.CopyFrom(message)
    name = request.name or (type(model).__name__ if is_module(model) else files[0].name)
    return Prepared(spec, [*files, *calibration.files, *measured.files], name)


def _write(request: Request, inputs: list[str] | None, folder: Path) -> tuple[batches.Batches, batches.Batches]:
    calibration = batches.write(request.data, inputs, "calib", folder, request.max_batches)
    if request.eval_data is None:
        return calibration, batches.Batches([], {})
    measured = batches.write(request.eval_data, inputs, "eval", folder, None)
    # A model is exported for every length that it is going to meet.
    for name, shapes in measured.shapes.items():
        calibration.shapes.setdefault(name, set()).update(shapes)
    return calibration, measured
