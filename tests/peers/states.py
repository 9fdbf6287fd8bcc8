"""The states a model runs in, as what happens to each tensor that has a scale.

A model's forward pass takes a `Visit` and hands it every such tensor by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from .fake_quant import INT16, IntType, Range, fake_quantize
from .observers import Observer


class Visit(Protocol):
    def __call__(self, name: str, x: Tensor, dtype: IntType = INT16) -> Tensor: ...


def untouched(name: str, x: Tensor, dtype: IntType = INT16) -> Tensor:
    """The float model."""
    return x


class Calibration:
    """Observes, and changes nothing."""

    def __init__(self, make_observer: Callable[[IntType], Observer]) -> None:
        self.make_observer = make_observer
        self.observers: dict[tuple[str, str], Observer] = {}

    def __call__(self, name: str, x: Tensor, dtype: IntType = INT16) -> Tensor:
        key = (name, dtype.name)
        if key not in self.observers:
            self.observers[key] = self.make_observer(dtype)
        self.observers[key].observe(x)
        return x

    def ranges(self) -> dict[tuple[str, str], Range]:
        return {key: o.range for key, o in self.observers.items() if o.range is not None}


class Validation:
    """Fake-quantizes with frozen scales."""

    def __init__(self, ranges: dict[tuple[str, str], Range]) -> None:
        self.ranges = ranges

    def __call__(self, name: str, x: Tensor, dtype: IntType = INT16) -> Tensor:
        return fake_quantize(x, self.ranges[name, dtype.name].scale(dtype), dtype)


class Only:
    """A sensitivity pass: fake-quantizes the tensors of one name, and leaves the others."""

    def __init__(self, validation: Validation, name: str) -> None:
        self.validation = validation
        self.name = name

    def __call__(self, name: str, x: Tensor, dtype: IntType = INT16) -> Tensor:
        return self.validation(name, x, dtype) if name == self.name else x
