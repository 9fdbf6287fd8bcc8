"""From a PyTorch module to an ONNX file. The only module of the way to a job that imports torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ._safetensors import load


def input_names(module: torch.nn.Module) -> list[str]:
    """Names of what `forward` must be given, in order."""
    empty = inspect.Parameter.empty
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    return [one.name for one in parameters if one.kind in positional and one.default is empty]


def export(
    module: torch.nn.Module, batches: list[Path], shapes: Mapping[str, set[tuple[int, ...]]], folder: Path
) -> Path:
    """Exports `module` as it evaluates, for inputs of the `shapes` that its batches have: a dimension that differs
    between them is left open. The module is as it was afterwards.

    Raises ValueError for batches of different numbers of dimensions or names.
    """
    open_axes: dict[str, dict[int, Any]] = {}
    for name, seen in shapes.items():
        if len({len(shape) for shape in seen}) != 1:
            raise ValueError(f"the batches' arrays for {name} differ in their number of dimensions")
        lengths = zip(*seen)
        open_axes[name] = {i: torch.export.Dim.DYNAMIC for i, one in enumerate(lengths) if len(set(one)) > 1}
    # A length of 0 or 1 would be taken for the model's own.
    example, _ = load(max(batches, key=lambda path: path.stat().st_size))
    if example.keys() != shapes.keys():
        missing = sorted(shapes.keys() - example.keys())
        raise ValueError(f"not every batch has {', '.join(missing)}")
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    inputs = {name: torch.from_numpy(x.copy()).to(device) for name, x in example.items()}
    path = folder / "model.onnx"
    # `eval()` sets every submodule alike; what each was is put back.
    training = {one: one.training for one in module.modules()}
    module.eval()
    try:
        torch.onnx.export(
            module,
            kwargs=inputs,
            f=path,
            dynamo=True,
            dynamic_shapes={name: axes for name, axes in open_axes.items()} if any(open_axes.values()) else None,
            verbose=False,
        )
    finally:
        for one, was in training.items():
            one.training = was
    return path
