"""What a model does at its Linears, for each state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from torch import Tensor

from .fake_quant import INT8
from .metrics import Sqnr
from .states import Visit
from .ways import Layer, Way

RunLinear = Callable[[Layer, Tensor, Visit], Tensor]


def float_linear(layer: Layer, x: Tensor, visit: Visit) -> Tensor:
    return layer.float(x)


class Observe:
    """CALIBRATION: the tensors inside every way in play; keeps each layer's input and output."""

    def __init__(self, ways: Mapping[str, Mapping[str, Way]]) -> None:
        self.ways = ways
        self.captured: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def __call__(self, layer: Layer, x: Tensor, visit: Visit) -> Tensor:
        ways = self.ways.get(layer.name, {}).values()
        for way in ways:
            way.observe(x, visit)
        if any(way.activation is INT8 for way in ways):
            visit(f"{layer.name}.input", x, INT8)
        y = visit(layer.name, layer.float(x))
        self.captured[layer.name].append((x, y))
        return y


class Quantized:
    """VALIDATION: one way a layer. Keeps the last run's outputs."""

    def __init__(self, ways: Mapping[str, Way], last: str) -> None:
        self.ways = ways
        self.last = last
        """The layer that feeds only the model's output."""
        self.outputs: dict[str, Tensor] = {}

    def __call__(self, layer: Layer, x: Tensor, visit: Visit) -> Tensor:
        way = self.ways[layer.name]
        if way.activation is INT8:
            x = visit(f"{layer.name}.input", x, INT8)
        y = way.run(x, visit)
        if not (way.high_precision and layer.name == self.last):
            y = visit(layer.name, y)
        self.outputs[layer.name] = y
        return y


def isolated(
    layer: str,
    input_name: str,
    ways: Mapping[str, Way],
    captured: list[tuple[Tensor, Tensor]],
    visit: Visit,
) -> dict[str, float]:
    """SQNR in dB of each way with float inputs, only this layer quantized."""
    sums = {way: Sqnr() for way in ways}
    for x, reference in captured:
        int16 = visit(input_name, x)
        int8 = visit(f"{layer}.input", x, INT8)
        for name, way in ways.items():
            y = way.run(int8 if way.activation is INT8 else int16, visit)
            sums[name].add(reference, visit(layer, y))
    return {name: total.db for name, total in sums.items()}


def choose(measured: Mapping[str, float], ways: Mapping[str, Way]) -> str:
    """The best, or within 0.5 dB of it the one with the fewest multiply-accumulates."""
    good = [name for name, db in measured.items() if db >= max(measured.values()) - 0.5]
    return min(good, key=lambda name: (ways[name].macs, -measured[name]))
