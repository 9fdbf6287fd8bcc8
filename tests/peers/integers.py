"""dual16's integer arithmetic by its specification, in numpy, to check the probe's results bit by bit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


def multiplier(ratio: float) -> tuple[int, int]:
    """A 15-bit multiplier and a right shift."""
    fraction, exponent = math.frexp(ratio)
    m, k = math.floor(fraction * 2**15 + 0.5), 15 - exponent
    return (m // 2, k - 1) if m == 2**15 else (m, k)


def rescale(acc: Int64, ratio: float) -> Int64:
    m, k = multiplier(ratio)
    return (acc * m + (1 << (k - 1))) >> k


def saturate(x: Int64) -> Int64:
    return np.clip(x, -(2**15), 2**15 - 1)


def requant(acc: Int64, ratio: float) -> Int64:
    return saturate(rescale(acc, ratio))


def linear(x: Int64, w: Int64, ratios: list[float]) -> Int64:
    """`x [N, K] * w [O, K]^T`, requantized by channel."""
    # Exact in f64: every sum is far below 2^53.
    acc = (x.astype(np.float64) @ w.astype(np.float64).T).astype(np.int64)
    return np.stack([requant(acc[:, o], ratio) for o, ratio in enumerate(ratios)], axis=1)


def mul_sum(x: Int64, w: Int64, product: float, total: float) -> tuple[Int64, int, int]:
    """Sums, and how many products became 0 and how many were clipped."""
    wide = rescale(x[:, None, :] * w[None, :, :], product)
    products = saturate(wide)
    sums = requant(products.sum(axis=-1), total)
    return sums, int((products == 0).sum()), int((wide != products).sum())
