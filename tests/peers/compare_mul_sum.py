"""mul_sum with its counts: the article's eager code against the fused kernel.

Both get the same integers, PyTorch as the floats they stand for; quantizing them is nobody's work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import integers
from .context import Context, agree
from .fake_quant import INT16, fake_quantize, quantize, range_of
from .probe import Probe
from .report import Row, speed
from .timing import calls, in_turns

ROWS, INNER, OUTPUTS = 200, 256, 60
TARGET = 60.0
SCALAR_TARGET = 4.0


def article(x: Tensor, w: Tensor, product: float, total: float) -> tuple[Tensor, int, int]:
    """Mul, fake quant, ReduceSum, fake quant; clips come from the mask that fake quant makes anyway."""
    products, inside = torch.ops.aten.fake_quantize_per_tensor_affine_cachemask(
        x.unsqueeze(-2) * w, product, 0, INT16.qmin, INT16.qmax
    )
    sums = fake_quantize(products.sum(-1), total, INT16)
    zeros = products.numel() - int(torch.count_nonzero(products))
    clipped = inside.numel() - int(torch.count_nonzero(inside))
    return sums, zeros, clipped


def compare(context: Context) -> list[Row]:
    torch.manual_seed(16)
    x, w = torch.randn(ROWS, INNER), torch.randn(OUTPUTS, INNER) * 0.1
    scales = {"input": range_of(x).scale(INT16), "weight": range_of(w).scale(INT16)}
    products = x.unsqueeze(-2) * w
    # Half of the full range, so that some products clip.
    scales["product"] = range_of(products).scale(INT16) / 2
    scales["sum"] = range_of(products.sum(-1)).scale(INT16)
    qx, qw = (quantize(t, scales[name], INT16).to(torch.int16) for t, name in ((x, "input"), (w, "weight")))
    fx, fw = qx.float() * scales["input"], qw.float() * scales["weight"]

    def peer(threads: int) -> float:
        torch.set_num_threads(threads)
        return calls(lambda: article(fx, fw, scales["product"], scales["sum"]), context.budget)

    many = context.threads
    with Probe(context.places.kernel_probe(), context.scratch, context.budget) as probe:
        probe.write_inputs("mul_sum", {"x": qx, "w": qw, **scales})
        peer_many, peer_one, ours_many, ours_one, scalar = in_turns(
            context.rounds,
            lambda: peer(many),
            lambda: peer(1),
            lambda: probe.measure("mul_sum", many),
            lambda: probe.measure("mul_sum", 1),
            lambda: probe.measure("mul_sum", 1, scalar=True),
        )
        got = probe.results("mul_sum")
    check = checked(qx, qw, scales, got, article(fx, fw, scales["product"], scales["sum"]))
    work = f"mul_sum int16 [{ROWS},{INNER}]×[{OUTPUTS},{INNER}] with counts"
    eager = "PyTorch eager fake quant of the article's code"
    return [
        speed(f"{work}, {many} threads", eager, peer_many, ours_many, check, TARGET),
        speed(f"{work}, 1 thread", eager, peer_one, ours_one, check),
        speed(f"{work}, 1 thread", "its own scalar reference", scalar, ours_one, check, SCALAR_TARGET),
    ]


def checked(
    qx: Tensor, qw: Tensor, scales: dict[str, float], got: dict[str, Tensor], peer: tuple[Tensor, int, int]
) -> str:
    """dual16's integers are the specification's to the bit, and the peer's within rounding."""
    sums, zero, clipped = integers.mul_sum(
        qx.long().numpy(),
        qw.long().numpy(),
        scales["input"] * scales["weight"] / scales["product"],
        scales["product"] / scales["sum"],
    )
    ours = got["sums"].reshape(ROWS, OUTPUTS)
    agree(bool((ours == torch.from_numpy(sums)).all()), "mul_sum: sums differ from the specification")
    agree(got["counts"].tolist() == [zero, clipped], "mul_sum: counts differ from the specification")
    peer_sums, peer_zero, peer_clipped = peer
    steps = float((peer_sums / scales["sum"] - ours).abs().max())
    agree(steps < 2.5, f"mul_sum: PyTorch differs by {steps:.1f} steps")
    return (
        f"equal to numpy to the bit; PyTorch within {steps:.0f} LSB, zeros {peer_zero}/{zero}, "
        f"clips {peer_clipped}/{clipped}"
    )
