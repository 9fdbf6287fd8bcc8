"""From whatever yields batches to files of one batch each, with an array for each input under its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import _safetensors
from ._safetensors import Array
from ._transfer import InputFile

Data = Iterable[Any] | str | Path
"""A DataLoader or any other iterable of batches, or a folder of `.safetensors` or `.npz` files.

A batch is an array (of the one input), a tuple or list of them (in the order of the inputs; what goes beyond them,
the labels of a DataLoader, is left out), or a mapping from an input's name to its array. An array has the shape of
the input: NumPy's, or a tensor of PyTorch on whatever device.
"""


def as_array(x: Any) -> Array:
    """A NumPy array of any shape with the values of `x`; bfloat16, which NumPy lacks, as float32."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()
    array = np.asarray(x)
    if not _safetensors.known(array.dtype):
        raise TypeError(
            f"a batch has an array of {array.dtype}; it must be bool, integers, float16, float32 or float64"
        )
    return array


def by_name(batch: Any, inputs: Sequence[str] | None) -> dict[str, Array]:
    """The arrays of a batch under the names of a model's `inputs`; None where the batch must name them."""
    if isinstance(batch, Mapping):
        return {str(name): as_array(x) for name, x in batch.items()}
    if inputs is None:
        raise TypeError(f"a batch must be a dict from a layer's name to its inputs, not {type(batch).__name__}")
    values = list(batch) if isinstance(batch, (tuple, list)) else [batch]
    if len(values) < len(inputs):
        raise ValueError(f"a batch has {len(values)} arrays, and the model {len(inputs)} inputs: {', '.join(inputs)}")
    return {name: as_array(x) for name, x in zip(inputs, values)}


@dataclass
class Batches:
    """Batches as files, and the shapes that were seen."""

    files: list[InputFile]
    shapes: dict[str, set[tuple[int, ...]]]
    """By input. Empty where the files were there already."""


def write(data: Data, inputs: Sequence[str] | None, prefix: str, folder: Path, limit: int | None) -> Batches:
    """Writes the first `limit` batches of `data` into `folder`, each to a file `PREFIX/NNNNN.safetensors`.

    One batch at a time is in memory. Files that are there already are taken where they lie.
    """
    if isinstance(data, (str, Path)):
        return Batches(_of_folder(Path(data), prefix, limit), {})
    if isinstance(data, Mapping) or hasattr(data, "shape"):
        raise TypeError(
            f"the data are one {type(data).__name__}, not batches of them; for a single batch give a list of one"
        )
    folder = folder / prefix
    folder.mkdir()
    batches = Batches([], {})
    for number, batch in enumerate(data):
        if number == limit:
            break
        arrays = by_name(batch, inputs)
        for name, x in arrays.items():
            batches.shapes.setdefault(name, set()).add(x.shape)
        path = folder / f"{number:05}.safetensors"
        _safetensors.save(arrays, path)
        batches.files.append(InputFile.of(f"{prefix}/{path.name}", path))
    if not batches.files:
        raise ValueError("the data hold no batch; an iterator that was read before is empty the second time")
    return batches


def _of_folder(folder: Path, prefix: str, limit: int | None) -> list[InputFile]:
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.npz"))
    paths.sort(key=lambda path: path.name)
    if not paths:
        raise ValueError(f"{folder} holds neither .safetensors nor .npz files")
    return [InputFile.of(f"{prefix}/{path.name}", path) for path in paths[:limit]]
