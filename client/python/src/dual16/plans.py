"""What quantizing would do, before any data is seen."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .results import notices

if TYPE_CHECKING:
    import pandas

FORMAT = "dual16 dry run 1"


@dataclass(frozen=True)
class Estimate:
    """Times of one batch on the chip in microseconds. They rank plans and promise nothing (docs/cost.md)."""

    latency_us: float
    compute_us: float
    """Of the units that compute."""
    load_us: float
    """From memory outside the chip."""
    store_us: float
    """To it."""
    bound: str
    """What takes most of it: `matrix`, `vector`, `memory`, `launch` …"""


@dataclass(frozen=True)
class PlannedLayer:
    """A Linear as it would start."""

    name: str
    shape: tuple[int, int]
    """[O, K]: output and input features."""
    macs: int
    """Multiply-accumulates of one batch."""
    requested: str
    way: str
    """The way that it starts with."""
    reason: str
    """Why that is not what was requested; empty where it is."""
    legal: list[str]
    """Ways that the toolchain can run."""
    illegal: dict[str, str]
    """The others, and the rule that each breaks."""
    estimate: Estimate
    """Of the way that it starts with."""


@dataclass(frozen=True)
class Named:
    """What settings may call an operation."""

    name: str
    """What results call it."""
    op: str
    """`Linear`, or the ONNX operator."""
    module: str
    """PyTorch module; empty where nothing tells it."""
    is_module: bool
    """The module's path is a name of this operation."""
    nodes: list[str]
    """ONNX nodes."""
    outputs: list[str]
    """Values that those nodes make."""
    scoped: str
    """Name by module and running number; empty where it is no other."""
    remedies: list[str]
    """What can run in its stead, as the setting `operator` takes it."""


class Plan:
    """What a plan job found: `plan.json` in the folder `path`."""

    def __init__(self, path: str | Path, keep: tempfile.TemporaryDirectory[str] | None = None) -> None:
        """Reads the plan in a folder. `keep` is the folder where it goes with this object.

        Raises ValueError for the plan.json of a job that quantized; `Result.plan()` has that.
        """
        self.path = path = Path(path)
        self._keep = keep
        self.raw: Mapping[str, Any] = json.loads((path / "plan.json").read_text(encoding="utf-8"))
        """`plan.json` as it is."""
        if self.raw["format"] != FORMAT:
            raise ValueError(f"{path / 'plan.json'} is of the format {self.raw['format']!r}, not {FORMAT!r}")
        self.layers = {one["name"]: _layer(one) for one in self.raw["layers"]}
        """Every Linear, in execution order."""
        self.names = [_named(one) for one in self.raw["names"]]
        """Every operation, in execution order."""
        self.tasks: dict[str, int] = self.raw["tasks"]
        """How many tasks a job would be, by stage."""
        self.bytes: dict[str, int] = self.raw["bytes"]
        """Of the job's files: `model`, `calibration`, `evaluation`."""
        self.estimate = _estimate(self.raw["estimate"])
        """Of the whole model as it would start; `raw["estimate"]` says of what it is made."""
        self.notices = notices(self.raw)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each Linear, indexed by its name: shape [O, K], ways, estimated microseconds a batch."""
        import pandas

        rows = [
            {
                "layer": layer.name,
                "outputs": layer.shape[0],
                "inputs": layer.shape[1],
                "macs": layer.macs,
                "requested": layer.requested,
                "way": layer.way,
                "legal": " ".join(layer.legal),
                "latency_us": layer.estimate.latency_us,
                "bound": layer.estimate.bound,
                "reason": layer.reason,
            }
            for layer in self.layers.values()
        ]
        return pandas.DataFrame(rows).set_index("layer")

    def names_to_pandas(self) -> pandas.DataFrame:
        """A row for each operation, indexed by its name: what else settings may call it."""
        import pandas

        return pandas.DataFrame([asdict(one) for one in self.names]).set_index("name")

    def __repr__(self) -> str:
        return (
            f"Plan({len(self.layers)} layers, {sum(self.tasks.values())} tasks, "
            f"{self.estimate.latency_us:.1f} us a batch by estimate; {str(self.path)!r})"
        )


def _layer(one: Mapping[str, Any]) -> PlannedLayer:
    outputs, inputs = one["shape"]
    return PlannedLayer(
        one["name"],
        (outputs, inputs),
        one["macs"],
        one["requested"],
        one["way"],
        one.get("reason", ""),
        one["legal"],
        one["illegal"],
        _estimate(one["estimate"]),
    )


def _named(one: Mapping[str, Any]) -> Named:
    return Named(
        one["name"],
        one["op"],
        one.get("module", ""),
        one["is_module"],
        one["nodes"],
        one["outputs"],
        one.get("scoped", ""),
        one.get("remedies", []),
    )


def _estimate(one: Mapping[str, Any]) -> Estimate:
    return Estimate(one["latency_us"], one["compute_us"], one["load_us"], one["store_us"], one["bound"])
