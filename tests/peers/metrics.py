"""Signal to quantization noise, over any number of batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Sqnr:
    def __init__(self) -> None:
        self.signal = 0.0
        self.noise = 0.0

    def add(self, reference: Tensor, got: Tensor) -> None:
        self.signal += float(torch.sum(reference.square(), dtype=torch.float64))
        self.noise += float(torch.sum((got - reference).square(), dtype=torch.float64))

    @property
    def db(self) -> float:
        return 10 * math.log10(self.signal / self.noise) if self.noise else math.inf


def sqnr(reference: Tensor, got: Tensor) -> float:
    one = Sqnr()
    one.add(reference, got)
    return one.db
