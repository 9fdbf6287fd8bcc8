"""The MSE observer on one large activation: 95 whole-tensor candidates against dual16's search."""

from __future__ import annotations

import torch
from torch import Tensor

from .context import Context, agree
from .fake_quant import INT8, INT16, IntType, fake_quantize, range_of
from .observers import candidate, mse_search
from .probe import Probe
from .report import Row, speed
from .timing import in_turns, once

VALUES = 3_000_000
TARGET = 40.0
WORKS: dict[str, tuple[IntType, ...]] = {
    "mse_int16": (INT16,),
    "mse_int8": (INT8,),
    "mse_both": (INT8, INT16),
}


def compare(context: Context) -> list[Row]:
    torch.manual_seed(16)
    values = torch.randn(VALUES)
    with Probe(context.places.kernel_probe(), context.scratch, context.budget) as probe:
        probe.write_inputs("mse", {"values": values})
        works = WORKS.items()
        return [row for work, dtypes in works for row in measured(context, probe, work, dtypes, values)]


def measured(
    context: Context, probe: Probe, work: str, dtypes: tuple[IntType, ...], values: Tensor
) -> list[Row]:
    def peer(threads: int) -> float:
        torch.set_num_threads(threads)
        # A search is long enough to be measured by one call.
        return once(lambda: [search(values, dtype) for dtype in dtypes])

    many = context.threads
    peer_many, peer_one, ours_many, ours_one = in_turns(
        context.job_rounds,
        lambda: peer(many),
        lambda: peer(1),
        lambda: probe.measure(work, many, inputs="mse"),
        lambda: probe.measure(work, 1, inputs="mse"),
    )
    check = checked(values, dtypes, probe.results(work)["index"])
    names = " and ".join(dtype.name for dtype in dtypes)
    name = f"MSE observer, {names}, {VALUES // 10**6} M values"
    plugin = "plugin-like PyTorch search"
    return [
        speed(f"{name}, {many} threads, a tensor each", plugin, peer_many, ours_many, check, TARGET),
        speed(f"{name}, 1 thread", plugin, peer_one, ours_one, check, TARGET),
    ]


def search(values: Tensor, dtype: IntType) -> int:
    return mse_search(values, range_of(values), dtype)


def checked(values: Tensor, dtypes: tuple[IntType, ...], indices: Tensor) -> str:
    """dual16's choice is PyTorch's, or has no larger loss in f64: PyTorch's own is summed in f32."""
    said = []
    for dtype, ours in zip(dtypes, indices.tolist(), strict=True):
        peer = search(values, dtype)
        agree(
            loss(values, dtype, ours) <= loss(values, dtype, peer) * (1 + 1e-6),
            f"MSE {dtype.name}: candidate {ours} chosen, PyTorch's {peer} has the smaller loss",
        )
        said.append(f"{dtype.name} candidate {ours}, PyTorch {peer}")
    return "; ".join(said)


def loss(values: Tensor, dtype: IntType, index: int) -> float:
    scale = candidate(range_of(values), index).scale(dtype)
    return float((fake_quantize(values, scale, dtype) - values).double().square().sum())
