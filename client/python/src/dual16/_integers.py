"""The chip's integer arithmetic by docs/numerics.md, in NumPy: exact, on int64."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

RANGES = {"int8": (-128, 127), "int16": (-32768, 32767)}
# Beyond it a product with a 15-bit multiplier may not fit an int64.
_SAFE = 1 << 47
# Products that mul_sum holds at a time.
_PRODUCTS = 1 << 22


def quantize(x: Float32, scale: float, dtype: str, rounding: str = "rne") -> Int64:
    """The integers of floats of any shape; half to even, or `floor(x / s + 0.5)`."""
    steps = x / np.float32(scale)
    rounded = np.rint(steps) if rounding == "rne" else np.floor(steps + np.float32(0.5))
    lowest, highest = RANGES[dtype]
    q: Int64 = np.clip(rounded, lowest, highest).astype(np.int64)
    return q


def multiplier(ratio: float) -> tuple[int, int]:
    """A 15-bit multiplier and a right shift."""
    fraction, exponent = math.frexp(ratio)
    m, k = math.floor(fraction * 2**15 + 0.5), 15 - exponent
    if m == 2**15:
        m, k = m // 2, k - 1
    if k < 1:
        return 32767, 1
    return (m, k) if k <= 62 else (0, 1)


def rescale(acc: Int64, ratios: list[float]) -> Int64:
    """`acc [.., O]` times a ratio for each channel, rounded half up; one ratio stands for all."""
    pairs = [multiplier(ratio) for ratio in ratios]
    m, k = (np.array(one, np.int64) for one in zip(*pairs))
    if acc.size and int(np.abs(acc).max()) >= _SAFE:
        wide = (acc.astype(object) * m + (1 << (k - 1).astype(object))) >> k.astype(object)
        saturated: Int64 = np.clip(wide, -(1 << 62), 1 << 62).astype(np.int64)
        return saturated
    return (acc * m + (np.int64(1) << (k - 1))) >> k


def requant(acc: Int64, ratios: list[float], dtype: str) -> Int64:
    """`rescale`, saturated to `dtype`."""
    return np.clip(rescale(acc, ratios), *RANGES[dtype])


def product(x: Int64, weight: Int64) -> Int64:
    """`x [N, K]` times `weight [O, K]` transposed, exactly: every sum is far below 2^53."""
    return (x.astype(np.float64) @ weight.astype(np.float64).T).astype(np.int64)


def mul_sum(x: Int64, weight: Int64, to_product: float, to_sum: float) -> Int64:
    """`x [N, K]` times `weight [O, K]`, each product rounded to int16 by itself before the sum."""
    rows = max(1, _PRODUCTS // max(1, weight.size))
    sums = [
        requant(part[:, None, :] * weight[None], [to_product], "int16").sum(-1)
        for part in np.split(x, range(rows, len(x), rows))
    ]
    return requant(np.concatenate(sums), [to_sum], "int16")


def add(terms: list[tuple[Int64, float]], dtype: str) -> Int64:
    """Each of one scale brought to the output's by its ratio, then added and saturated."""
    return np.clip(sum((rescale(x, [ratio]) for x, ratio in terms), np.int64(0)), *RANGES[dtype])
