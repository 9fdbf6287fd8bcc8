"""Reads and writes safetensors files of NumPy arrays: a length, a header in JSON, the bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

_DTYPES = {
    "BOOL": "?",
    "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
    "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def known(dtype: np.dtype[np.generic]) -> bool:
    """Whether arrays of `dtype` can be written."""
    return dtype.newbyteorder("<") in _NAMES


def save(arrays: Mapping[str, Array], path: Path) -> None:
    """Writes `arrays` of any shapes under their names."""
    header: dict[str, object] = {}
    whole = {name: np.ascontiguousarray(x, x.dtype.newbyteorder("<")) for name, x in sorted(arrays.items())}
    offset = 0
    for name, x in whole.items():
        # ascontiguousarray makes a scalar one-dimensional.
        header[name] = {
            "dtype": _NAMES[x.dtype],
            "shape": list(np.shape(arrays[name])),
            "data_offsets": [offset, offset + x.nbytes],
        }
        offset += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as target:
        target.write(struct.pack("<Q", len(text)) + text)
        for x in whole.values():
            target.write(x.tobytes())


def load(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays of a file by name, and its metadata.

    Raises ValueError for what is no safetensors file, or has a type that NumPy does not.
    """
    data = path.read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        metadata = dict(header.pop("__metadata__", {}))
        arrays = {}
        for name, entry in header.items():
            begin, end = (8 + length + at for at in entry["data_offsets"])
            dtype = _DTYPES.get(entry["dtype"])
            if dtype is None:
                raise ValueError(f"{name} is {entry['dtype']}, which NumPy does not have")
            arrays[name] = np.frombuffer(data[begin:end], dtype).reshape(entry["shape"])
    except (struct.error, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a safetensors file") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return arrays, metadata
