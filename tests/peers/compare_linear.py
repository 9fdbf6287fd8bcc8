"""One Linear in integers, a16w8 and split, against PyTorch's float32 linear.

dual16 goes from int16 input to requantized int16 output; PyTorch multiplies floats and quantizes
nothing, so it is the bound that fake quantization of any kind starts from.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import integers
from .context import Context, agree
from .fake_quant import INT8, INT16, channel_scales, quantize, range_of
from .metrics import sqnr
from .probe import Probe
from .report import Row, speed
from .timing import calls, in_turns
from .ways import split_weight

SHAPES = ((128, 384, 1536), (128, 1536, 384))
TARGETS = {"a16w8": 1.0, "split": 0.5}

Inputs = dict[str, Tensor | float]


def compare(context: Context) -> list[Row]:
    rows: list[Row] = []
    for n, k, o in SHAPES:
        torch.manual_seed(16)
        x, w = torch.randn(n, k), torch.randn(o, k) / k**0.5
        for way, inputs in (("a16w8", a16w8(x, w)), ("split", split(x, w))):
            rows += measured(context, way, x, w, inputs)
    return rows


def measured(context: Context, way: str, x: Tensor, w: Tensor, inputs: Inputs) -> list[Row]:
    def peer(threads: int) -> float:
        torch.set_num_threads(threads)
        return calls(lambda: F.linear(x, w), context.budget)

    many = context.threads
    with Probe(context.places.kernel_probe(), context.scratch, context.budget) as probe:
        probe.write_inputs(way, inputs)
        peer_many, peer_one, ours_many, ours_one = in_turns(
            context.rounds,
            lambda: peer(many),
            lambda: peer(1),
            lambda: probe.measure(way, many),
            lambda: probe.measure(way, 1),
        )
        got = probe.results(way)["y"].reshape(len(x), len(w))
    check = checked(way, x, w, inputs, got)
    work = f"{way} [{x.shape[0]},{x.shape[1]}]×[{w.shape[0]},{w.shape[1]}]"
    float32 = "PyTorch float32 linear"
    return [
        speed(f"{work}, {many} threads", float32, peer_many, ours_many, check, TARGETS[way]),
        speed(f"{work}, 1 thread", float32, peer_one, ours_one, check),
    ]


def a16w8(x: Tensor, w: Tensor) -> Inputs:
    scales = channel_scales(w, INT8)
    return {
        **common(x, w),
        "w": quantize(w, scales[:, None], INT8).to(torch.int8),
        "weight": scales,
    }


def split(x: Tensor, w: Tensor) -> Inputs:
    hi, lo, scales = split_weight(w)
    high_scales = 256 * scales
    return {
        **common(x, w),
        "hi": hi.to(torch.int8),
        "lo": lo.to(torch.int8),
        "hi_weight": high_scales,
        "lo_weight": scales,
        "high": range_of(F.linear(x, hi * high_scales[:, None])).scale(INT16),
        "low": range_of(F.linear(x, lo * scales[:, None])).scale(INT16),
    }


def common(x: Tensor, w: Tensor) -> Inputs:
    scale = range_of(x).scale(INT16)
    return {
        "input": scale,
        "output": range_of(F.linear(x, w)).scale(INT16),
        "x": quantize(x, scale, INT16).to(torch.int16),
    }


def checked(way: str, x: Tensor, w: Tensor, inputs: Inputs, got: Tensor) -> str:
    expected = torch.from_numpy(expected_a16w8(inputs) if way == "a16w8" else expected_split(inputs))
    agree(bool((got == expected).all()), f"{way}: integers differ from the specification")
    db = sqnr(F.linear(x, w), got * inputs["output"])
    return f"equal to numpy to the bit; {db:.0f} dB from PyTorch's floats"


def expected_a16w8(inputs: Inputs) -> integers.Int64:
    return plane(inputs, "w", "weight", "output")


def expected_split(inputs: Inputs) -> integers.Int64:
    parts = (("hi", "hi_weight", "high"), ("lo", "lo_weight", "low"))
    rescaled = [
        integers.rescale(plane(inputs, *part), number(inputs, part[2]) / number(inputs, "output"))
        for part in parts
    ]
    return integers.saturate(np.add(*rescaled))


def plane(inputs: Inputs, weight: str, scales: str, output: str) -> integers.Int64:
    channel = tensor(inputs, scales).double().tolist()
    ratios = [number(inputs, "input") * s / number(inputs, output) for s in channel]
    return integers.linear(tensor(inputs, "x").long().numpy(), tensor(inputs, weight).long().numpy(), ratios)


def tensor(inputs: Inputs, name: str) -> Tensor:
    return torch.as_tensor(inputs[name])


def number(inputs: Inputs, name: str) -> float:
    return float(inputs[name])
