"""Observers as a plugin has them: a range for each batch, merged by union."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from .fake_quant import IntType, Range, fake_quantize, range_of

MSE_CANDIDATES = 95


class Observer(Protocol):
    range: Range | None

    def observe(self, x: Tensor) -> None: ...


class MinMax:
    def __init__(self, dtype: IntType) -> None:
        self.range: Range | None = None

    def observe(self, x: Tensor) -> None:
        self.range = merged(self.range, range_of(x))


class Mse:
    """The shrunken range with the least error of fake quantization."""

    def __init__(self, dtype: IntType) -> None:
        self.range: Range | None = None
        self.dtype = dtype

    def observe(self, x: Tensor) -> None:
        whole = range_of(x)
        best = mse_search(x, whole, self.dtype)
        self.range = merged(self.range, candidate(whole, best))


def candidate(whole: Range, index: int) -> Range:
    return whole.shrunk(1.0 - 0.01 * index)


def mse_search(x: Tensor, whole: Range, dtype: IntType) -> int:
    """Fake-quantizes all of `x` with each of 95 ranges; ties go to the larger index."""
    best, least = 0, float("inf")
    for index in range(MSE_CANDIDATES):
        scale = candidate(whole, index).scale(dtype)
        loss = F.mse_loss(fake_quantize(x, scale, dtype), x).item()
        if loss <= least:
            best, least = index, loss
    return best


def merged(seen: Range | None, new: Range) -> Range:
    return new if seen is None else seen.union(new)
