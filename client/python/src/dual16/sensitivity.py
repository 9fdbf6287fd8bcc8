"""What each fake quant alone costs a model's outputs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .events import OutputSensitivity, SensitivityMeasured

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Together:
    """The worst rows at once."""

    rows: int
    """How many, those that cost most first."""
    outputs: dict[str, OutputSensitivity]


@dataclass(frozen=True)
class BatchSensitivity:
    """One batch under all measured rows at once."""

    batch: str
    """Its file, and its place there."""
    outputs: dict[str, OutputSensitivity]


class Sensitivity:
    """What an analysis found: `sensitivity.json` and the tables beside it, in the folder `path`."""

    def __init__(self, path: str | Path, keep: tempfile.TemporaryDirectory[str] | None = None) -> None:
        """Reads the analysis in a folder. `keep` is the folder where it goes with this object."""
        self.path = path = Path(path)
        self._keep = keep
        self.raw: Mapping[str, Any] = json.loads((path / "sensitivity.json").read_text(encoding="utf-8"))
        """`sensitivity.json` as it is."""
        self.rows = [_row(one) for one in self.raw["rows"]]
        """The worst first, by the metric that was asked for."""
        self.only_estimated: int = self.raw["rows_only_estimated"]
        """Rows that were not measured, and are not in `rows`."""
        self.together = [Together(one["rows"], _outputs(one["outputs"])) for one in self.raw["together"]]
        """More and more of the rows at once."""
        self.batches = [BatchSensitivity(one["batch"], _outputs(one["outputs"])) for one in self.raw["batches"]]

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each fake quant and output, the worst first: what it is, and every error."""
        import pandas

        return pandas.DataFrame(
            [
                {
                    "op_name": row.op_name,
                    "sensitive_type": row.sensitive_type,
                    "op_type": row.op_type,
                    "quant_dtype": row.quant_dtype,
                    "macs": row.macs,
                    "macs_share": row.macs_share,
                    "estimate_db": row.estimate_db,
                    "output": name,
                    **asdict(errors),
                }
                for row in self.rows
                for name, errors in row.outputs.items()
            ]
        )

    def __repr__(self) -> str:
        worst = f"{self.rows[0].op_name} ({self.rows[0].sensitive_type}) first" if self.rows else "none"
        return f"Sensitivity({len(self.rows)} rows, {worst}; {str(self.path)!r})"


def _row(one: Mapping[str, Any]) -> SensitivityMeasured:
    return SensitivityMeasured(
        one["op_name"],
        one["sensitive_type"],
        one["op_type"],
        one["quant_dtype"],
        one["macs"],
        one["macs_share"],
        one["estimate_db"],
        _outputs(one["outputs"]),
        one["reason"],
    )


def _outputs(outputs: Mapping[str, Mapping[str, float | None]]) -> dict[str, OutputSensitivity]:
    names = [field.name for field in fields(OutputSensitivity)]
    return {output: OutputSensitivity(*(errors[name] for name in names)) for output, errors in outputs.items()}
