"""A Linear in the five ways of NASH_M, in float with fake quantization.

`observe` sees the float input and hands the tensors inside the way to the observers. `run` takes an
input that is already fake-quantized in the way's activation type; the output's own fake
quantization is the caller's, for all ways share its scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .fake_quant import (
    INT8,
    INT16,
    SMALLEST_SCALE,
    IntType,
    channel_scales,
    fake_quantize_channels,
    fake_quantize_constant,
    quantize,
    range_of,
)
from .states import Visit

SPLIT_QMAX = 32639  # 256 * 127 + 127: both planes stay in int8


@dataclass(frozen=True)
class Layer:
    """Weight `[O, K]` and bias `[O]`."""

    name: str
    weight: Tensor
    bias: Tensor

    def float(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Way(Protocol):
    activation: IntType
    macs: int
    """Multiply-accumulates, as multiples of one Linear."""
    high_precision: bool
    """Whether an output that only leaves the model is not requantized."""

    def observe(self, x: Tensor, visit: Visit) -> None: ...

    def run(self, x: Tensor, visit: Visit) -> Tensor: ...

    def integers(self) -> dict[str, Tensor]: ...


class Gemm:
    """a16w8, a8w16, a16w16: one product of matrices, weights per channel."""

    macs = 1

    def __init__(self, layer: Layer, activation: IntType, weight: IntType) -> None:
        self.layer = layer
        self.activation = activation
        self.dtype = weight
        self.weight = fake_quantize_channels(layer.weight, weight)
        self.high_precision = INT8 in (activation, weight)

    def observe(self, x: Tensor, visit: Visit) -> None:
        pass

    def run(self, x: Tensor, visit: Visit) -> Tensor:
        return F.linear(x, self.weight, self.layer.bias)

    def integers(self) -> dict[str, Tensor]:
        scales = channel_scales(self.layer.weight, self.dtype)
        q = quantize(self.layer.weight, scales[:, None], self.dtype)
        return {"weight": q.to(torch.int8 if self.dtype is INT8 else torch.int16), "weight_scale": scales}


class MulSum:
    """The article's replacement: Mul, ReduceSum and Add, everything int16 per tensor."""

    activation = INT16
    macs = 1
    high_precision = False

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.weight = fake_quantize_constant(layer.weight)
        self.bias = fake_quantize_constant(layer.bias)

    def observe(self, x: Tensor, visit: Visit) -> None:
        products = visit(f"{self.layer.name}.mul", x.unsqueeze(-2) * self.layer.weight)
        visit(f"{self.layer.name}.sum", products.sum(-1))

    def run(self, x: Tensor, visit: Visit) -> Tensor:
        products = visit(f"{self.layer.name}.mul", x.unsqueeze(-2) * self.weight)
        return visit(f"{self.layer.name}.sum", products.sum(-1)) + self.bias

    def integers(self) -> dict[str, Tensor]:
        parts = {"weight": self.layer.weight, "bias": self.layer.bias}
        return {
            name: quantize(x, range_of(x).scale(INT16), INT16).to(torch.int16) for name, x in parts.items()
        }


class Split:
    """W16 = 256 hi + lo: two int8 Linears with int16 outputs, and an Add."""

    activation = INT16
    macs = 2
    high_precision = False

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.hi, self.lo, self.scales = split_weight(layer.weight)
        self.high = self.hi * (256 * self.scales)[:, None]
        self.low = self.lo * self.scales[:, None]

    def observe(self, x: Tensor, visit: Visit) -> None:
        self.run(x, visit)

    def run(self, x: Tensor, visit: Visit) -> Tensor:
        high = visit(f"{self.layer.name}.hi", F.linear(x, self.high, self.layer.bias))
        return high + visit(f"{self.layer.name}.lo", F.linear(x, self.low))

    def integers(self) -> dict[str, Tensor]:
        return {
            "weight_hi": self.hi.to(torch.int8),
            "weight_lo": self.lo.to(torch.int8),
            "scale": self.scales,
        }


def split_weight(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The planes hi and lo, integers in float32, and the scale of each channel of lo."""
    scales = (weight.abs().amax(dim=1) / SPLIT_QMAX).clamp_min(SMALLEST_SCALE)
    q = torch.clamp(torch.round(weight / scales[:, None]), -SPLIT_QMAX, SPLIT_QMAX)
    lo = torch.remainder(q + 128, 256) - 128
    return (q - lo) / 256, lo, scales


def five_ways(layer: Layer) -> dict[str, Way]:
    return legal_ways(layer) | {"a16w16": Gemm(layer, INT16, INT16)}


def legal_ways(layer: Layer) -> dict[str, Way]:
    """Before OE 3.2.0: at most one int16 operand in a product of matrices."""
    return {
        "a16w8": Gemm(layer, INT16, INT8),
        "a8w16": Gemm(layer, INT8, INT16),
        "mul_sum": MulSum(layer),
        "split": Split(layer),
    }
