"""Scales, plan and weights once more from what a job observed, without its batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import v1
from .settings import layer_settings


@dataclass(frozen=True)
class Changes:
    """What a job that is rescaled has otherwise; what is None or empty is as the job had it.

    The words are those of `Settings`, and so is what a NAME may be.
    """

    observer: str | None = None
    """The job must have observed what it needs; `Settings.keep_statistics` has everything observed."""
    percentile: float | None = None
    """Share of |x| in percent that the percentile observer keeps, in (0, 100]."""
    merge: str | None = None
    scale_rule: str | None = None
    toolchain: str | None = None
    power_of_two: bool | None = None
    linear: Mapping[str, str] = field(default_factory=dict)
    """NAME to way; without it every layer keeps the way that it ran in, its fit included."""
    dtype: Mapping[str, str] = field(default_factory=dict)
    fixed_scale: Mapping[str, float] = field(default_factory=dict)
    layer_observer: Mapping[str, str] = field(default_factory=dict)

    def spec(self, of: v1.JobSpec, statistics: v1.Artifact, plan: Mapping[str, Any]) -> v1.JobSpec:
        """The job that `of` becomes, from its `statistics` and what its `plan.json` says."""
        spec = v1.JobSpec()
        spec.CopyFrom(of)
        # The first batch is for the shapes of the model.
        del spec.calibration[1:], spec.evaluation[:]
        kept = v1.InputFile(name=statistics.name, digest=statistics.digest, size=statistics.size)
        spec.rescale.CopyFrom(v1.RescaleSpec(statistics=kept))
        quantize = spec.quantize
        quantize.save_outputs = False
        for name in ("observer", "percentile", "merge", "scale_rule", "toolchain", "power_of_two"):
            value = getattr(self, name)
            if value is not None:
                setattr(quantize, name, value)
        # Without batches no way can be measured.
        ran = {layer["name"]: layer["effective"] for layer in plan["layers"]}
        quantize.settings.extend(layer_settings(ran, {}, {}, {}))
        quantize.settings.extend(layer_settings(self.linear, self.dtype, self.fixed_scale, self.layer_observer))
        return spec
