"""int8 and int16, scales, and fake quantization by PyTorch's own operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SMALLEST_SCALE = 2.0**-23


@dataclass(frozen=True)
class IntType:
    """A signed format with zero point 0."""

    name: str
    qmin: int
    qmax: int

    @property
    def divisor(self) -> float:
        return (self.qmax - self.qmin) / 2


INT8 = IntType("int8", -(2**7), 2**7 - 1)
INT16 = IntType("int16", -(2**15), 2**15 - 1)


@dataclass(frozen=True)
class Range:
    """Smallest and largest value, as float32 holds them."""

    low: float
    high: float

    def union(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))

    def scale(self, dtype: IntType) -> float:
        """max(-low, high, 0) / divisor in float32, at least 2^-23."""
        amax = np.float32(max(-self.low, self.high, 0.0))
        return float(max(amax / np.float32(dtype.divisor), np.float32(SMALLEST_SCALE)))

    def shrunk(self, factor: float) -> Range:
        f = np.float32(factor)
        return Range(float(np.float32(self.low) * f), float(np.float32(self.high) * f))


def range_of(x: Tensor) -> Range:
    low, high = torch.aminmax(x)
    return Range(float(low), float(high))


def fake_quantize(x: Tensor, scale: float, dtype: IntType) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, scale, 0, dtype.qmin, dtype.qmax)


def quantize(x: Tensor, scale: Tensor | float, dtype: IntType) -> Tensor:
    """Integers, still in float32; `scale` is one number or broadcasts."""
    return torch.clamp(torch.round(x / scale), dtype.qmin, dtype.qmax)


def channel_scales(weight: Tensor, dtype: IntType) -> Tensor:
    """A scale for each row of `[O, K]`, from its extremes."""
    return (weight.abs().amax(dim=1) / dtype.divisor).clamp_min(SMALLEST_SCALE)


def fake_quantize_channels(weight: Tensor, dtype: IntType) -> Tensor:
    """By division, once for a weight: PyTorch's operator multiplies with the reciprocal, and the row's
    extreme, which lies at amax / scale = 127.5, then falls on either side by chance."""
    scales = channel_scales(weight, dtype)[:, None]
    return quantize(weight, scales, dtype) * scales


def fake_quantize_constant(x: Tensor, dtype: IntType = INT16) -> Tensor:
    """A parameter that the chip reads as an activation: one scale, from its own extremes."""
    return fake_quantize(x, range_of(x).scale(dtype), dtype)
