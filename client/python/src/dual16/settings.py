"""How to quantize: the settings of `dual16 quantize --help` under the same names and with the same words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from . import v1


@dataclass(frozen=True)
class Settings:
    """What a job is asked for; the defaults are the server's.

    A NAME is that of a module, an ONNX node or a value, or a glob over them (`blocks.*.fc1`).
    """

    template: str = ""
    """Starting types: `a8w8`, `a16w8` (default), `a16w16`."""
    linear: Mapping[str, str] = field(default_factory=dict)
    """NAME to way: `split`, `auto`, `a16w8+gptq` …; a later one wins."""
    dtype: Mapping[str, str] = field(default_factory=dict)
    """NAME to `int8` or `int16`, of an operation's output."""
    fixed_scale: Mapping[str, float] = field(default_factory=dict)
    """NAME to the real value of one step, > 0."""
    layer_observer: Mapping[str, str] = field(default_factory=dict)
    """NAME to observer."""
    high_precision: Collection[str] = ()
    """NAMEs of Linears whose output stays in high precision."""
    operator: Mapping[str, str] = field(default_factory=dict)
    """NAME of an operator that is no Linear to the remedy that runs in its stead: `two_range`, `division`, `plain` …"""
    observer: str = ""
    """`minmax` (default), `mse`, `percentile`, `kl`."""
    percentile: float = 0.0
    """Share of |x| in percent that the percentile observer keeps; 0 = 99.99."""
    merge: str = ""
    """`exact` (default), `ema`."""
    toolchain: str = ""
    """`oe-3.1` (default), `oe-3.2`."""
    march: str = ""
    """`nash-m` (default), `nash-e`."""
    rounding: str = ""
    """`rne` (default), `floor`."""
    scale_rule: str = ""
    """`range` (default), `threshold`."""
    power_of_two: bool = False
    min_layer_sqnr: float | None = None
    """dB below which a layer is measured every way; None = 30."""
    min_output_sqnr: float | None = None
    """dB below which an output is mended; 0 mends nothing, None = 30."""
    output_target: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """Output to what it is to reach instead: `("cosine", 0.999)`."""
    chip: str = ""
    """TOML laid over the built-in parameters of the chip."""
    freeze_integers: bool = False
    allow_fp16: bool = False
    strict: bool = False
    keep_statistics: bool = False
    save_outputs: bool = False

    def spec(self) -> v1.QuantizeSpec:
        """The message that says the same."""
        settings = layer_settings(self.linear, self.dtype, self.fixed_scale, self.layer_observer)
        settings += [v1.LayerSetting(name=name, high_precision=True) for name in self.high_precision]
        settings += [v1.LayerSetting(name=name, operator=remedy) for name, remedy in self.operator.items()]
        return v1.QuantizeSpec(
            template=self.template,
            observer=self.observer,
            percentile=self.percentile,
            merge=self.merge,
            toolchain=self.toolchain,
            march=self.march,
            rounding=self.rounding,
            scale_rule=self.scale_rule,
            power_of_two=self.power_of_two,
            min_layer_sqnr=self.min_layer_sqnr,
            min_output_sqnr=self.min_output_sqnr,
            settings=settings,
            save_outputs=self.save_outputs,
            freeze_integers=self.freeze_integers,
            strict=self.strict,
            chip=self.chip,
            output_targets=[
                v1.OutputTarget(output=name, metric=metric, value=value)
                for name, (metric, value) in self.output_target.items()
            ],
            keep_statistics=self.keep_statistics,
            allow_fp16=self.allow_fp16,
        )


def layer_settings(
    linear: Mapping[str, str], dtype: Mapping[str, str], fixed_scale: Mapping[str, float], observer: Mapping[str, str]
) -> list[v1.LayerSetting]:
    """Settings by NAME, in the order in which they are applied."""
    settings = [v1.LayerSetting(name=name, way=way) for name, way in linear.items()]
    settings += [v1.LayerSetting(name=name, dtype=word) for name, word in dtype.items()]
    settings += [v1.LayerSetting(name=name, fixed_scale=scale) for name, scale in fixed_scale.items()]
    settings += [v1.LayerSetting(name=name, observer=word) for name, word in observer.items()]
    return settings
