"""The integers that a job makes of a model's layers, and what they compute."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import _integers, _safetensors
from ._integers import Float32, Int64
from ._safetensors import Array

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ConvertedLayer:
    """A Linear in integers: `y = x [.., K] * W[O, K]^T + b`."""

    name: str
    way: str
    """What runs, fits included: `split`, `a16w8+gptq`."""
    tensors: Mapping[str, Array]
    """Integers and scales: `weight` [O, K], `weight_scale` [O], `bias` [O] …"""
    input_dtype: str
    output_dtype: str | None
    """None: the output stays in high precision."""
    rounding: str

    def scale(self, name: str) -> float:
        """A scale of the layer: `input`, `output`, and those inside a way (`hi`, `lo`, `mul`, `sum` …)."""
        return float(self.tensors[f"{name}_scale"][0])

    def quantize(self, x: ArrayLike) -> Int64:
        """The integers [.., K] of a float input [.., K]."""
        return _integers.quantize(np.asarray(x, np.float32), self.scale("input"), self.input_dtype, self.rounding)

    def weight(self) -> Float32:
        """The values [O, K] that the integers of the weight stand for; of a low-rank branch, the sum with it."""
        if "weight" not in self.tensors:
            return self._values("weight_hi") + self._values("weight_lo")
        weight = self._values("weight")
        if "lowrank_up" in self.tensors:
            weight = weight + self._values("lowrank_up") @ self._values("lowrank_down")
        return weight

    def bias(self) -> Float32 | None:
        """The values [O] that the integers of the bias stand for; None where there is none."""
        if "bias" not in self.tensors:
            return None
        steps = self.tensors.get("bias_scale")
        if steps is None:
            steps = np.float64(self.scale("input")) * self._scales(self._main())
        values: Float32 = (self.tensors["bias"].astype(np.float64) * np.asarray(steps, np.float64)).astype(np.float32)
        return values

    def integers(self, q: Int64) -> Int64:
        """The integer result [.., O] of an integer input [.., K], as the chip computes it: the output's integers, or
        the accumulators where the output stays in high precision."""
        q = np.asarray(q, np.int64)
        flat = q.reshape(-1, q.shape[-1])
        base = self.way.split("+")[0]
        if base == "mul_sum":
            y = self._mul_sum(flat)
        elif base == "split":
            y = self._add({"hi": self._product(flat, "weight_hi", "hi"), "lo": self._product(flat, "weight_lo", "lo")})
        elif "lowrank_up" in self.tensors:
            inner = self._factor(flat, "lowrank_down", self.scale("input"), "lowrank_inner")
            branch = self._factor(inner, "lowrank_up", self.scale("lowrank_inner"), "lowrank")
            y = self._add({"main": self._product(flat, "weight", "main"), "lowrank": branch})
        elif self.output_dtype is None:
            y = self._accumulators(flat, "weight")
        else:
            y = _integers.requant(
                self._accumulators(flat, "weight"), self._ratios("weight", "input", "output"), self.output_dtype
            )
        return y.reshape(*q.shape[:-1], y.shape[-1])

    def __call__(self, x: ArrayLike) -> Float32:
        """The result [.., O] for a float input [.., K]: quantized, computed in integers, and back."""
        y = self.integers(self.quantize(x))
        if self.output_dtype is None:
            steps = np.float64(self.scale("input")) * self._scales("weight")
            values: Float32 = (y * steps).astype(np.float32)
            return values
        return y.astype(np.float32) * np.float32(self.scale("output"))

    def _main(self) -> str:
        return "weight" if "weight" in self.tensors else "weight_hi"

    def _scales(self, weight: str) -> Any:
        return self.tensors[f"{weight}_scale"].astype(np.float64)

    def _values(self, weight: str) -> Float32:
        scales = np.asarray(self.tensors[f"{weight}_scale"], np.float32)
        return self.tensors[weight].astype(np.float32) * scales[:, None]

    def _ratios(self, weight: str, source: str, target: str) -> list[float]:
        return [self.scale(source) * float(scale) / self.scale(target) for scale in self._scales(weight)]

    def _accumulators(self, x: Int64, weight: str) -> Int64:
        acc = _integers.product(x, self.tensors[weight].astype(np.int64))
        has_bias = weight == self._main() and "bias" in self.tensors
        return acc + self.tensors["bias"].astype(np.int64) if has_bias else acc

    def _product(self, x: Int64, weight: str, target: str) -> Int64:
        return _integers.requant(self._accumulators(x, weight), self._ratios(weight, "input", target), "int16")

    def _factor(self, x: Int64, weight: str, source: float, target: str) -> Int64:
        ratios = [source * float(scale) / self.scale(target) for scale in self._scales(weight)]
        acc = _integers.product(x, self.tensors[weight].astype(np.int64))
        return _integers.requant(acc, ratios, "int16")

    def _add(self, terms: Mapping[str, Int64]) -> Int64:
        ratios = [(x, self.scale(name) / self.scale("output")) for name, x in terms.items()]
        return _integers.add(ratios, self.output_dtype or "int16")

    def _mul_sum(self, x: Int64) -> Int64:
        weight = self.tensors["weight"].astype(np.int64)
        to_product = self.scale("input") * self.scale("weight") / self.scale("mul")
        sums = _integers.mul_sum(x, weight, to_product, self.scale("mul") / self.scale("sum"))
        terms = {"sum": sums}
        if "bias" in self.tensors:
            terms["bias"] = self.tensors["bias"].astype(np.int64)
        return self._add(terms)


@dataclass(frozen=True)
class Converted(Mapping[str, ConvertedLayer]):
    """The layers of a model in integers, by name."""

    tensors: Mapping[str, Array]
    """Everything in the file: `LAYER.weight`, `LAYER.weight_scale`, `LAYER.bias` …"""
    plan: Mapping[str, Any]
    """`plan.json`: types and scales of every tensor, way of every Linear."""

    def __getitem__(self, name: str) -> ConvertedLayer:
        for layer in self.plan["layers"]:
            if layer["name"] == name:
                return self._layer(layer)
        raise KeyError(f"{name} is no layer; there are {', '.join(self)}")

    def __iter__(self) -> Iterator[str]:
        return (str(layer["name"]) for layer in self.plan["layers"])

    def __len__(self) -> int:
        return len(self.plan["layers"])

    def torch(self) -> dict[str, torch.Tensor]:
        """Everything in the file as tensors of PyTorch."""
        import torch

        return {name: torch.from_numpy(x.copy()) for name, x in self.tensors.items()}

    def _layer(self, layer: Mapping[str, Any]) -> ConvertedLayer:
        own = _of(self.tensors, layer["name"])
        # A weight that several layers have is written with one of them.
        shared = _of(self.tensors, layer["weight_of"]) if layer.get("weight_of") else {}
        weights = {name: x for name, x in shared.items() if name.startswith(("weight", "lowrank"))}
        output = layer.get("output")
        return ConvertedLayer(
            layer["name"],
            layer["effective"],
            weights | own,
            layer["input"]["dtype"],
            output["dtype"] if output else None,
            self.plan["request"]["rounding"],
        )


def _of(tensors: Mapping[str, Array], layer: str) -> dict[str, Array]:
    split = (name.rpartition(".") for name in tensors)
    return {name: tensors[f"{owner}.{name}"] for owner, _, name in split if owner == layer}


def load_converted(path: str | Path) -> Converted:
    """Reads `converted.safetensors`, or that of a job's folder of results.

    Raises ValueError for a file that is none of dual16's.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "converted.safetensors"
    tensors, metadata = _safetensors.load(path)
    if "plan" not in metadata:
        raise ValueError(f"{path} has no plan in its metadata; it must be converted.safetensors of a job")
    return Converted(tensors, json.loads(metadata["plan"]))
