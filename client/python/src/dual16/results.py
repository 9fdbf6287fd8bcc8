"""What a job brings: a folder of files, and what `result.json` says with types."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .converted import Converted, load_converted
from .events import LayerMeasured, Mended, Metrics, Notice, OutputMeasured, SensitivityMeasured, WayMeasured

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Layer:
    """A Linear in the result."""

    name: str
    requested: str
    effective: str
    reason: str
    """Why effective is not what was requested; empty where it is."""
    isolated: dict[str, WayMeasured]
    """Every way that was tried, alone on float inputs, fits that were accepted among them."""
    validation: Metrics
    """Inside the whole quantized model, as fake quant sees it."""
    converted: Metrics
    """The same in integers."""
    latency_us: float
    """An estimate of its time on the chip for one batch."""


@dataclass(frozen=True)
class Partial:
    """What a job has told so far; of one that was cancelled, all there is."""

    layers: dict[str, LayerMeasured] = field(default_factory=dict)
    outputs: dict[str, OutputMeasured] = field(default_factory=dict)
    rows: list[SensitivityMeasured] = field(default_factory=list)
    """Of an analysis."""
    notices: list[Notice] = field(default_factory=list)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each layer and way that was measured."""
        import pandas

        return pandas.DataFrame([row for layer in self.layers.values() for row in _rows(layer.name, layer.ways)])


class Result:
    """The results of a job, in the folder `path`."""

    def __init__(self, path: str | Path, keep: tempfile.TemporaryDirectory[str] | None = None) -> None:
        """Reads the results in a folder. `keep` is the folder where it goes with this object."""
        self.path = path = Path(path)
        self._keep = keep
        with (path / "result.json").open(encoding="utf-8") as file:
            self.raw: Mapping[str, Any] = json.load(file)
        """`result.json` as it is."""
        self.outputs = {
            one["name"]: OutputMeasured(one["name"], _metrics(one["validation"]), _metrics(one["converted"]))
            for one in self.raw["outputs"]
        }
        self.layers = {one["name"]: _layer(one) for one in self.raw["layers"]}
        self.mended = [
            Mended(
                one["round"],
                one["op"],
                one["from"],
                one["to"],
                one["kept"],
                one["before_sqnr_db"],
                one["output_sqnr_db"],
            )
            for one in self.raw.get("mended", [])
        ]
        self.notices = notices(self.raw)

    def converted(self) -> Converted:
        """The layers in integers."""
        return load_converted(self.path)

    def plan(self) -> dict[str, Any]:
        """`plan.json`: type and scale of every tensor, way of every Linear."""
        plan: dict[str, Any] = json.loads((self.path / "plan.json").read_text(encoding="utf-8"))
        return plan

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each layer, indexed by its name: ways, SQNR in dB alone and in the whole model."""
        import pandas

        rows = [
            {
                "layer": layer.name,
                "requested": layer.requested,
                "effective": layer.effective,
                "alone_db": layer.isolated[layer.effective].metrics.sqnr_db
                if layer.effective in layer.isolated
                else None,
                "validation_db": layer.validation.sqnr_db,
                "converted_db": layer.converted.sqnr_db,
                "latency_us": layer.latency_us,
                "reason": layer.reason,
            }
            for layer in self.layers.values()
        ]
        return pandas.DataFrame(rows).set_index("layer")

    def ways_to_pandas(self) -> pandas.DataFrame:
        """A row for each layer and way that was tried."""
        import pandas

        return pandas.DataFrame([row for layer in self.layers.values() for row in _rows(layer.name, layer.isolated)])

    def __repr__(self) -> str:
        outputs = ", ".join(
            f"{one.name} {'exact' if one.converted.sqnr_db is None else f'{one.converted.sqnr_db:.1f} dB'}"
            for one in self.outputs.values()
        )
        return f"Result({outputs}; {len(self.layers)} layers; {str(self.path)!r})"


def notices(raw: Mapping[str, Any]) -> list[Notice]:
    """What a file of JSON tells its reader."""
    return [Notice(one["warning"], one["code"], one["subject"], one["message"]) for one in raw["notices"]]


def _rows(layer: str, ways: Mapping[str, WayMeasured]) -> list[dict[str, object]]:
    return [
        {
            "layer": layer,
            "way": way.way,
            "legal": way.legal,
            "sqnr_db": way.metrics.sqnr_db,
            "cosine": way.metrics.cosine,
            "mse": way.metrics.mse,
            "macs": way.macs,
            "latency_us": way.latency_us,
        }
        for way in ways.values()
    ]


def _layer(one: Mapping[str, Any]) -> Layer:
    ways = {**one["isolated"], **one.get("fits", {})}
    return Layer(
        one["name"],
        one["requested"],
        one["effective"],
        one["reason"],
        {name: _way(name, way) for name, way in ways.items()},
        _metrics(one["accumulated"]["validation"]),
        _metrics(one["accumulated"]["converted"]),
        one["estimate"]["latency_us"],
    )


def _way(name: str, way: Mapping[str, Any]) -> WayMeasured:
    return WayMeasured(name, way["legal"], way["reason"], _metrics(way), way["macs"], way["estimate"]["latency_us"])


def _metrics(one: Mapping[str, Any]) -> Metrics:
    return Metrics(
        one["sqnr_db"], one["cosine"], one["l1"], one["mse"], one["atol"], one["lsb"], one["reason"], one["left_out"]
    )
