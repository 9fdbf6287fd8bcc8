"""The inputs of a PyTorch module's Linears, captured while it runs: what layer mode takes, without a graph.

Those inside `nn.MultiheadAttention` are captured, too: it calls none of its submodules, so hooks see nothing of
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Key = tuple[int, tuple[int, ...]]


class Capture:
    """What was captured: `dual16.quantize(capture.layers, capture.batches)`."""

    def __init__(self, module: nn.Module) -> None:
        self._linears = dict(_linears(module))
        self._pending: dict[str, list[Tensor]] = {}
        self.batches: list[dict[str, Tensor]] = []
        """For each run of the module, the input [rows, K] of each Linear that ran, float32 on the CPU. Of a Linear
        that ran several times, all rows."""

    @property
    def layers(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Weight [O, K] and bias [O] of each Linear that ran, by the path of its module; those of an attention are
        `PATH.in_proj` (or its parts `PATH.in_proj.q`, `.k`, `.v`, `.kv`) and `PATH.out_proj`."""
        ran = {name for batch in self.batches for name in batch}
        return {name: pair for name, pair in self._linears.items() if name in ran}

    @property
    def missed(self) -> list[str]:
        """Linears that have not run; of an attention's projections, those that ran in another cut are left out."""
        ran = self.layers.keys()
        return [name for name in self._linears if name not in ran and not _is_part(name)]

    def _end_run(self) -> None:
        if self._pending:
            self.batches.append({name: torch.cat(parts) for name, parts in self._pending.items()})
        self._pending = {}


@contextmanager
def capture(module: nn.Module) -> Iterator[Capture]:
    """Captures every run of `module` inside the block; each is a batch. The module computes what it always does.

    Not for use from several threads: what PyTorch calls a Linear is replaced meanwhile.
    """
    found = Capture(module)
    by_weight: dict[Key, str] = {_key(weight): name for name, (weight, _) in found._linears.items()}
    linear: Any = nn.functional.linear

    def spy(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        name = by_weight.get(_key(weight))
        if name is not None:
            rows = input.detach().reshape(-1, input.shape[-1]).to("cpu", torch.float32, copy=True)
            found._pending.setdefault(name, []).append(rows)
        result: Tensor = linear(input, weight, bias)
        return result

    handle = module.register_forward_hook(lambda *_: found._end_run())
    fast = torch.backends.mha.get_fastpath_enabled()
    # It is one fused call, of which nothing is seen.
    torch.backends.mha.set_fastpath_enabled(False)
    nn.functional.linear = spy
    try:
        yield found
    finally:
        nn.functional.linear = linear
        torch.backends.mha.set_fastpath_enabled(fast)
        handle.remove()
        found._pending = {}


def _key(weight: Tensor) -> Key:
    return weight.data_ptr(), tuple(weight.shape)


def _is_part(name: str) -> bool:
    return ".in_proj" in f".{name}"


def _linears(module: nn.Module) -> Iterator[tuple[str, tuple[Tensor, Tensor | None]]]:
    """Name, weight and bias of all that may run as a Linear."""
    for path, one in module.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(one, nn.Linear):
            yield path or "linear", (one.weight.detach(), _detached(one.bias))
        elif isinstance(one, nn.MultiheadAttention):
            yield from _projections(f"{prefix}in_proj", one)


def _projections(name: str, attention: nn.MultiheadAttention) -> Iterator[tuple[str, tuple[Tensor, Tensor | None]]]:
    width = attention.embed_dim
    bias = _detached(attention.in_proj_bias)
    cuts = {"q": (0, width), "k": (width, 2 * width), "v": (2 * width, 3 * width)}
    if attention.in_proj_weight is None:
        for part, (begin, end) in cuts.items():
            weight = getattr(attention, f"{part}_proj_weight").detach()
            yield f"{name}.{part}", (weight, None if bias is None else bias[begin:end])
        return
    # In one product where query, key and value are one tensor, in two or three where they are not.
    whole = attention.in_proj_weight.detach()
    yield name, (whole, bias)
    for part, (begin, end) in {**cuts, "kv": (width, 3 * width)}.items():
        yield f"{name}.{part}", (whole[begin:end], None if bias is None else bias[begin:end])


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()
