"""LayerNorm and Softmax as the chip runs them: small operations, every inner tensor int16."""

from __future__ import annotations

import torch
from torch import Tensor

from .fake_quant import fake_quantize_constant
from .states import Visit


class LayerNorm:
    """Over the last axis. CALIBRATION runs it with float parameters, VALIDATION with int16 ones."""

    def __init__(self, name: str, weight: Tensor, bias: Tensor, eps: float) -> None:
        self.name = name
        self.float = (weight, bias)
        self.int16 = (fake_quantize_constant(weight), fake_quantize_constant(bias))
        self.eps = eps

    def run(self, x: Tensor, visit: Visit, *, quantized: bool) -> Tensor:
        weight, bias = self.int16 if quantized else self.float

        def inner(step: str, value: Tensor) -> Tensor:
            return visit(f"{self.name}.{step}", value)

        mean = inner("input_mean.pre_mean", x.mean(-1, keepdim=True))
        centred = inner("sub", x - mean)
        square = inner("mul", centred * centred)
        variance = inner("var_mean.pre_mean", square.mean(-1, keepdim=True))
        inverse = inner("rsqrt", torch.rsqrt(variance + self.eps))
        normalized = inner("out_mul", centred * inverse)
        weighted = inner("weight_mul", normalized * weight)
        return visit(self.name, weighted + bias)


def softmax(name: str, x: Tensor, visit: Visit) -> Tensor:
    """Over the last axis."""
    shifted = visit(f"{name}.sub", x - x.amax(-1, keepdim=True))
    exp = visit(f"{name}.exp", torch.exp(shifted))
    total = visit(f"{name}.sum", exp.sum(-1, keepdim=True))
    inverse = visit(f"{name}.reciprocal", torch.reciprocal(total))
    return visit(name, exp * inverse)
