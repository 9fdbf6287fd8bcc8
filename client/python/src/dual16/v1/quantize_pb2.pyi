from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QuantizeSpec(_message.Message):
    __slots__ = ("template", "observer", "percentile", "merge", "toolchain", "march", "rounding", "scale_rule", "power_of_two", "min_layer_sqnr", "settings", "save_outputs", "freeze_integers", "min_output_sqnr", "strict", "chip", "output_targets", "keep_statistics", "allow_fp16")
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    OBSERVER_FIELD_NUMBER: _ClassVar[int]
    PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    TOOLCHAIN_FIELD_NUMBER: _ClassVar[int]
    MARCH_FIELD_NUMBER: _ClassVar[int]
    ROUNDING_FIELD_NUMBER: _ClassVar[int]
    SCALE_RULE_FIELD_NUMBER: _ClassVar[int]
    POWER_OF_TWO_FIELD_NUMBER: _ClassVar[int]
    MIN_LAYER_SQNR_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    SAVE_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    FREEZE_INTEGERS_FIELD_NUMBER: _ClassVar[int]
    MIN_OUTPUT_SQNR_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    CHIP_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TARGETS_FIELD_NUMBER: _ClassVar[int]
    KEEP_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FP16_FIELD_NUMBER: _ClassVar[int]
    template: str
    observer: str
    percentile: float
    merge: str
    toolchain: str
    march: str
    rounding: str
    scale_rule: str
    power_of_two: bool
    min_layer_sqnr: float
    settings: _containers.RepeatedCompositeFieldContainer[LayerSetting]
    save_outputs: bool
    freeze_integers: bool
    min_output_sqnr: float
    strict: bool
    chip: str
    output_targets: _containers.RepeatedCompositeFieldContainer[OutputTarget]
    keep_statistics: bool
    allow_fp16: bool
    def __init__(self, template: _Optional[str] = ..., observer: _Optional[str] = ..., percentile: _Optional[float] = ..., merge: _Optional[str] = ..., toolchain: _Optional[str] = ..., march: _Optional[str] = ..., rounding: _Optional[str] = ..., scale_rule: _Optional[str] = ..., power_of_two: _Optional[bool] = ..., min_layer_sqnr: _Optional[float] = ..., settings: _Optional[_Iterable[_Union[LayerSetting, _Mapping]]] = ..., save_outputs: _Optional[bool] = ..., freeze_integers: _Optional[bool] = ..., min_output_sqnr: _Optional[float] = ..., strict: _Optional[bool] = ..., chip: _Optional[str] = ..., output_targets: _Optional[_Iterable[_Union[OutputTarget, _Mapping]]] = ..., keep_statistics: _Optional[bool] = ..., allow_fp16: _Optional[bool] = ...) -> None: ...

class OutputTarget(_message.Message):
    __slots__ = ("output", "metric", "value")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    output: str
    metric: str
    value: float
    def __init__(self, output: _Optional[str] = ..., metric: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class PlanSpec(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AnalyzeSpec(_message.Message):
    __slots__ = ("exact", "outputs", "metric")
    EXACT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    exact: int
    outputs: _containers.RepeatedScalarFieldContainer[str]
    metric: str
    def __init__(self, exact: _Optional[int] = ..., outputs: _Optional[_Iterable[str]] = ..., metric: _Optional[str] = ...) -> None: ...

class SensitivityMeasured(_message.Message):
    __slots__ = ("op_name", "sensitive_type", "op_type", "quant_dtype", "macs", "macs_share", "estimate_db", "outputs", "reason")
    OP_NAME_FIELD_NUMBER: _ClassVar[int]
    SENSITIVE_TYPE_FIELD_NUMBER: _ClassVar[int]
    OP_TYPE_FIELD_NUMBER: _ClassVar[int]
    QUANT_DTYPE_FIELD_NUMBER: _ClassVar[int]
    MACS_FIELD_NUMBER: _ClassVar[int]
    MACS_SHARE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_DB_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    op_name: str
    sensitive_type: str
    op_type: str
    quant_dtype: str
    macs: int
    macs_share: float
    estimate_db: float
    outputs: _containers.RepeatedCompositeFieldContainer[OutputSensitivity]
    reason: str
    def __init__(self, op_name: _Optional[str] = ..., sensitive_type: _Optional[str] = ..., op_type: _Optional[str] = ..., quant_dtype: _Optional[str] = ..., macs: _Optional[int] = ..., macs_share: _Optional[float] = ..., estimate_db: _Optional[float] = ..., outputs: _Optional[_Iterable[_Union[OutputSensitivity, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class OutputSensitivity(_message.Message):
    __slots__ = ("output", "sqnr", "cosine", "l1", "mse", "atol", "rtol", "kl")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SQNR_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    L1_FIELD_NUMBER: _ClassVar[int]
    MSE_FIELD_NUMBER: _ClassVar[int]
    ATOL_FIELD_NUMBER: _ClassVar[int]
    RTOL_FIELD_NUMBER: _ClassVar[int]
    KL_FIELD_NUMBER: _ClassVar[int]
    output: str
    sqnr: float
    cosine: float
    l1: float
    mse: float
    atol: float
    rtol: float
    kl: float
    def __init__(self, output: _Optional[str] = ..., sqnr: _Optional[float] = ..., cosine: _Optional[float] = ..., l1: _Optional[float] = ..., mse: _Optional[float] = ..., atol: _Optional[float] = ..., rtol: _Optional[float] = ..., kl: _Optional[float] = ...) -> None: ...

class LayerSetting(_message.Message):
    __slots__ = ("name", "way", "dtype", "fixed_scale", "observer", "high_precision", "operator")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WAY_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    FIXED_SCALE_FIELD_NUMBER: _ClassVar[int]
    OBSERVER_FIELD_NUMBER: _ClassVar[int]
    HIGH_PRECISION_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    way: str
    dtype: str
    fixed_scale: float
    observer: str
    high_precision: bool
    operator: str
    def __init__(self, name: _Optional[str] = ..., way: _Optional[str] = ..., dtype: _Optional[str] = ..., fixed_scale: _Optional[float] = ..., observer: _Optional[str] = ..., high_precision: _Optional[bool] = ..., operator: _Optional[str] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("sqnr_db", "cosine", "l1", "mse", "atol", "lsb", "reason", "left_out")
    SQNR_DB_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    L1_FIELD_NUMBER: _ClassVar[int]
    MSE_FIELD_NUMBER: _ClassVar[int]
    ATOL_FIELD_NUMBER: _ClassVar[int]
    LSB_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    sqnr_db: float
    cosine: float
    l1: float
    mse: float
    atol: float
    lsb: float
    reason: str
    left_out: int
    def __init__(self, sqnr_db: _Optional[float] = ..., cosine: _Optional[float] = ..., l1: _Optional[float] = ..., mse: _Optional[float] = ..., atol: _Optional[float] = ..., lsb: _Optional[float] = ..., reason: _Optional[str] = ..., left_out: _Optional[int] = ...) -> None: ...

class WayMeasured(_message.Message):
    __slots__ = ("way", "legal", "reason", "metrics", "macs", "zero_fraction", "clip_fraction", "accumulator_bits", "estimate", "weight_bytes", "fit", "held_out_gain_db")
    WAY_FIELD_NUMBER: _ClassVar[int]
    LEGAL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    MACS_FIELD_NUMBER: _ClassVar[int]
    ZERO_FRACTION_FIELD_NUMBER: _ClassVar[int]
    CLIP_FRACTION_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATOR_BITS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_GAIN_DB_FIELD_NUMBER: _ClassVar[int]
    way: str
    legal: bool
    reason: str
    metrics: Metrics
    macs: int
    zero_fraction: float
    clip_fraction: float
    accumulator_bits: int
    estimate: CostEstimate
    weight_bytes: int
    fit: str
    held_out_gain_db: float
    def __init__(self, way: _Optional[str] = ..., legal: _Optional[bool] = ..., reason: _Optional[str] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., macs: _Optional[int] = ..., zero_fraction: _Optional[float] = ..., clip_fraction: _Optional[float] = ..., accumulator_bits: _Optional[int] = ..., estimate: _Optional[_Union[CostEstimate, _Mapping]] = ..., weight_bytes: _Optional[int] = ..., fit: _Optional[str] = ..., held_out_gain_db: _Optional[float] = ...) -> None: ...

class CostEstimate(_message.Message):
    __slots__ = ("latency_us", "compute_us", "load_us", "store_us", "bound")
    LATENCY_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    LOAD_US_FIELD_NUMBER: _ClassVar[int]
    STORE_US_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    latency_us: float
    compute_us: float
    load_us: float
    store_us: float
    bound: str
    def __init__(self, latency_us: _Optional[float] = ..., compute_us: _Optional[float] = ..., load_us: _Optional[float] = ..., store_us: _Optional[float] = ..., bound: _Optional[str] = ...) -> None: ...

class LayerMeasured(_message.Message):
    __slots__ = ("layer", "op", "requested", "effective", "reason", "ways")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAYS_FIELD_NUMBER: _ClassVar[int]
    layer: str
    op: str
    requested: str
    effective: str
    reason: str
    ways: _containers.RepeatedCompositeFieldContainer[WayMeasured]
    def __init__(self, layer: _Optional[str] = ..., op: _Optional[str] = ..., requested: _Optional[str] = ..., effective: _Optional[str] = ..., reason: _Optional[str] = ..., ways: _Optional[_Iterable[_Union[WayMeasured, _Mapping]]] = ...) -> None: ...

class LayerAccumulated(_message.Message):
    __slots__ = ("layer", "validation", "converted")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    CONVERTED_FIELD_NUMBER: _ClassVar[int]
    layer: str
    validation: Metrics
    converted: Metrics
    def __init__(self, layer: _Optional[str] = ..., validation: _Optional[_Union[Metrics, _Mapping]] = ..., converted: _Optional[_Union[Metrics, _Mapping]] = ...) -> None: ...

class OperatorMeasured(_message.Message):
    __slots__ = ("name", "op", "dtype", "scale", "isolated", "validation", "converted", "drop_db", "parts_db", "zero_share", "clip_share", "range_covered")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ISOLATED_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    CONVERTED_FIELD_NUMBER: _ClassVar[int]
    DROP_DB_FIELD_NUMBER: _ClassVar[int]
    PARTS_DB_FIELD_NUMBER: _ClassVar[int]
    ZERO_SHARE_FIELD_NUMBER: _ClassVar[int]
    CLIP_SHARE_FIELD_NUMBER: _ClassVar[int]
    RANGE_COVERED_FIELD_NUMBER: _ClassVar[int]
    name: str
    op: str
    dtype: str
    scale: float
    isolated: Metrics
    validation: Metrics
    converted: Metrics
    drop_db: float
    parts_db: float
    zero_share: float
    clip_share: float
    range_covered: float
    def __init__(self, name: _Optional[str] = ..., op: _Optional[str] = ..., dtype: _Optional[str] = ..., scale: _Optional[float] = ..., isolated: _Optional[_Union[Metrics, _Mapping]] = ..., validation: _Optional[_Union[Metrics, _Mapping]] = ..., converted: _Optional[_Union[Metrics, _Mapping]] = ..., drop_db: _Optional[float] = ..., parts_db: _Optional[float] = ..., zero_share: _Optional[float] = ..., clip_share: _Optional[float] = ..., range_covered: _Optional[float] = ...) -> None: ...

class MendStep(_message.Message):
    __slots__ = ("round", "op", "sensitive_type", "to", "share", "left", "kept", "before_sqnr_db", "output_sqnr_db", "added_us", "added_macs")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    SENSITIVE_TYPE_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_SQNR_DB_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SQNR_DB_FIELD_NUMBER: _ClassVar[int]
    ADDED_US_FIELD_NUMBER: _ClassVar[int]
    ADDED_MACS_FIELD_NUMBER: _ClassVar[int]
    round: int
    op: str
    sensitive_type: str
    to: str
    share: float
    left: float
    kept: bool
    before_sqnr_db: float
    output_sqnr_db: float
    added_us: float
    added_macs: int
    def __init__(self, round: _Optional[int] = ..., op: _Optional[str] = ..., sensitive_type: _Optional[str] = ..., to: _Optional[str] = ..., share: _Optional[float] = ..., left: _Optional[float] = ..., kept: _Optional[bool] = ..., before_sqnr_db: _Optional[float] = ..., output_sqnr_db: _Optional[float] = ..., added_us: _Optional[float] = ..., added_macs: _Optional[int] = ..., **kwargs) -> None: ...

class OutputMeasured(_message.Message):
    __slots__ = ("output", "validation", "converted")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    CONVERTED_FIELD_NUMBER: _ClassVar[int]
    output: str
    validation: Metrics
    converted: Metrics
    def __init__(self, output: _Optional[str] = ..., validation: _Optional[_Union[Metrics, _Mapping]] = ..., converted: _Optional[_Union[Metrics, _Mapping]] = ...) -> None: ...
