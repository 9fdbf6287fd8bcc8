"""What a job tells while it works, as values with types. Figures are defined in docs/numerics.md."""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import Union

from google.protobuf.message import Message

from . import v1


class State(enum.IntEnum):
    """Where a job is."""

    PENDING = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def ended(self) -> bool:
        return self >= State.SUCCEEDED


@dataclass(frozen=True)
class Metrics:
    """Errors of one tensor against its float reference, over all measured batches. None where there is no finite
    figure; `reason` says why."""

    sqnr_db: float | None
    """None without any error as well; `atol` is 0 then."""
    cosine: float | None
    l1: float | None
    mse: float | None
    atol: float | None
    lsb: float | None
    """`atol` in steps of the output's scale; None for a high-precision output."""
    reason: str
    left_out: int
    """Positions at which the reference itself is NaN or infinite."""


@dataclass(frozen=True)
class WayMeasured:
    """One way of a Linear alone: float inputs, only this layer quantized."""

    way: str
    legal: bool
    reason: str
    """Why it is not legal, or has no figures; else empty."""
    metrics: Metrics
    macs: int
    """Multiply-accumulates of one batch."""
    latency_us: float
    """An estimate of its time on the chip for one batch."""


@dataclass(frozen=True)
class LayerMeasured:
    """The ways of a Linear that were tried, and the one that is chosen."""

    name: str
    requested: str
    effective: str
    reason: str
    """Why effective is not what was requested; empty where it is."""
    ways: dict[str, WayMeasured]


@dataclass(frozen=True)
class OutputMeasured:
    """An output of the whole quantized model."""

    name: str
    validation: Metrics
    """As fake quant sees it."""
    converted: Metrics
    """In integers."""


@dataclass(frozen=True)
class Mended:
    """A change made for the outputs' sake."""

    round: int
    op: str
    before: str
    after: str
    kept: bool
    before_sqnr_db: float | None
    output_sqnr_db: float | None


@dataclass(frozen=True)
class OutputSensitivity:
    """Errors of one output of the model, over all measured batches. None where there is no finite figure, as SQNR
    without any error."""

    sqnr: float | None
    """dB."""
    cosine: float | None
    l1: float | None
    mse: float | None
    atol: float | None
    """The largest difference."""
    rtol: float | None
    kl: float | None
    """Nats."""


@dataclass(frozen=True)
class SensitivityMeasured:
    """What one fake quant alone costs the model's outputs, everything else being float."""

    op_name: str
    """Of the operation, or of what it makes."""
    sensitive_type: str
    """`activation`, `weight`, `table` or `rescale`; the last two are what integers add to fake quant."""
    op_type: str
    """`Linear`, `ReduceMean` …; of what runs in float the ONNX operator."""
    quant_dtype: str
    """`int8` or `int16`."""
    macs: int
    """Multiply-accumulates of the operation over one batch."""
    macs_share: float
    """Of the model's, in [0, 1]."""
    estimate_db: float | None
    """SQNR of the outputs to first order."""
    outputs: dict[str, OutputSensitivity]
    """Measured, by name."""
    reason: str
    """Why there are no errors; else empty."""


@dataclass(frozen=True)
class Notice:
    """Something to know: a fallback, a float island, a wide accumulator."""

    warning: bool
    code: str
    subject: str
    message: str


@dataclass(frozen=True)
class Progress:
    """Tasks of a stage that are done."""

    stage: str
    done: int
    tasks: int


@dataclass(frozen=True)
class Retried:
    """A task failed or its worker was lost, and it runs again."""

    task: str
    message: str


@dataclass(frozen=True)
class StateChanged:
    """The job is somewhere else."""

    state: State


Event = Union[LayerMeasured, OutputMeasured, Mended, SensitivityMeasured, Notice, Progress, Retried, StateChanged]


_ERRORS = [field.name for field in fields(OutputSensitivity)]


def of_message(detail: v1.EventDetail) -> Event | None:
    """The event that a message tells of; None for one that a result has in full (layers in the whole model, operators)
    or that a newer server tells."""
    kind = detail.WhichOneof("detail")
    if kind == "layer_measured":
        layer = detail.layer_measured
        ways = {way.way: _way(way) for way in layer.ways}
        return LayerMeasured(layer.layer, layer.requested, layer.effective, layer.reason, ways)
    if kind == "output_measured":
        output = detail.output_measured
        return OutputMeasured(output.output, _metrics(output.validation), _metrics(output.converted))
    if kind == "mended":
        step = detail.mended
        before, after = _figure(step, "before_sqnr_db"), _figure(step, "output_sqnr_db")
        return Mended(step.round, step.op, getattr(step, "from"), step.to, step.kept, before, after)
    if kind == "sensitivity_measured":
        row = detail.sensitivity_measured
        return SensitivityMeasured(
            row.op_name,
            row.sensitive_type,
            row.op_type,
            row.quant_dtype,
            row.macs,
            row.macs_share,
            _figure(row, "estimate_db"),
            {one.output: OutputSensitivity(*(_figure(one, name) for name in _ERRORS)) for one in row.outputs},
            row.reason,
        )
    if kind == "notice":
        notice = detail.notice
        return Notice(int(notice.severity) == 2, notice.code, notice.subject, notice.message)
    if kind == "stage_started":
        return Progress(detail.stage_started.stage, 0, detail.stage_started.tasks)
    if kind == "task_done":
        return Progress(detail.task_done.stage, detail.task_done.done, detail.task_done.tasks)
    if kind == "task_retried":
        return Retried(detail.task_retried.task, detail.task_retried.error.message)
    if kind == "state_changed":
        return StateChanged(State(int(detail.state_changed.state)))
    return None


def _way(way: v1.WayMeasured) -> WayMeasured:
    metrics = _metrics(way.metrics)
    return WayMeasured(way.way, way.legal, way.reason, metrics, way.macs, way.estimate.latency_us)


def _metrics(metrics: v1.Metrics) -> Metrics:
    sqnr_db, cosine = _figure(metrics, "sqnr_db"), _figure(metrics, "cosine")
    l1, mse, atol, lsb = (_figure(metrics, name) for name in ("l1", "mse", "atol", "lsb"))
    return Metrics(sqnr_db, cosine, l1, mse, atol, lsb, metrics.reason, metrics.left_out)


def _figure(message: Message, name: str) -> float | None:
    """A figure that is set where it is finite."""
    return float(getattr(message, name)) if message.HasField(name) else None
