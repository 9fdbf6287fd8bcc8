"""From whatever holds a model to the files of a job: an ONNX file with its external data, a PyTorch module, or
named weights without a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from . import _safetensors, v1
from ._transfer import InputFile
from .batches import as_array

if TYPE_CHECKING:
    import torch

Model = Union[str, Path, "torch.nn.Module", Mapping[str, Any]]
"""A path of an ONNX file; a `torch.nn.Module`; or layers: a `state_dict` (`NAME.weight` [O, K] and `NAME.bias` [O]),
or a mapping from NAME to a weight, to a pair of weight and bias, or to a Linear."""


def is_module(model: Any) -> bool:
    """Whether this is a PyTorch module; does not import it."""
    return any(kind.__module__ == "torch.nn.modules.module" for kind in type(model).__mro__)


class OnnxFiles:
    """An ONNX file on this machine."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file; a model is an ONNX file, a module or layers")
        self.path = path
        graph = v1.OnnxFile.FromString(path.read_bytes())
        initialized = {tensor.name for tensor in graph.graph.initializer}
        self.inputs = [one.name for one in graph.graph.input if one.name not in initialized]
        """Names of what a batch must have, in order."""
        nodes = [*graph.graph.node, *(node for function in graph.functions for node in function.node)]
        tensors = [*graph.graph.initializer, *(tensor for node in nodes for tensor in _tensors(node))]
        entries = (entry for tensor in tensors for entry in tensor.external_data)
        self._external = sorted({entry.value for entry in entries if entry.key == "location"})

    def message(self) -> tuple[v1.OnnxModel, list[InputFile]]:
        """The model as a job has it, and the files to upload.

        Raises ValueError for external data that lie elsewhere than beside the model.
        """
        model = InputFile.of(self.path.name, self.path)
        external = []
        for location in self._external:
            if Path(location).is_absolute() or ".." in Path(location).parts:
                raise ValueError(f"{self.path}: external data {location!r} must be a relative path without '..'")
            external.append(InputFile.of(location, self.path.parent / location))
        message = v1.OnnxModel(model=model.message(), external_data=[file.message() for file in external])
        return message, [model, *external]


def _tensors(node: v1.OnnxNode) -> Iterator[v1.OnnxTensor]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for graph in (attribute.g, *attribute.graphs):
            yield from graph.initializer
            for inner in graph.node:
                yield from _tensors(inner)


def layers_file(layers: Mapping[str, Any], folder: Path) -> InputFile:
    """Writes layers to a file in `folder`.

    Raises ValueError for a weight that has not two dimensions.
    """
    arrays: dict[str, _safetensors.Array] = {}
    for name, layer in layers.items():
        if name.endswith((".weight", ".bias")):
            arrays[name] = as_array(layer)
            continue
        parts = (layer.weight, layer.bias) if hasattr(layer, "weight") else layer
        weight, bias = parts if isinstance(parts, (tuple, list)) else (parts, None)
        arrays[f"{name}.weight"] = as_array(weight)
        if bias is not None:
            arrays[f"{name}.bias"] = as_array(bias)
        if arrays[f"{name}.weight"].ndim != 2:
            raise ValueError(f"the weight of {name} has shape {arrays[f'{name}.weight'].shape}; it must be [O, K]")
    path = folder / "layers.safetensors"
    _safetensors.save(arrays, path)
    return InputFile.of(path.name, path)
