import datetime

from dual16.v1 import quantize_pb2 as _quantize_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    PENDING: _ClassVar[JobState]
    RUNNING: _ClassVar[JobState]
    SUCCEEDED: _ClassVar[JobState]
    FAILED: _ClassVar[JobState]
    CANCELLED: _ClassVar[JobState]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    LOW: _ClassVar[Priority]
    NORMAL: _ClassVar[Priority]
    HIGH: _ClassVar[Priority]
JOB_STATE_UNSPECIFIED: JobState
PENDING: JobState
RUNNING: JobState
SUCCEEDED: JobState
FAILED: JobState
CANCELLED: JobState
PRIORITY_UNSPECIFIED: Priority
LOW: Priority
NORMAL: Priority
HIGH: Priority

class InputFile(_message.Message):
    __slots__ = ("name", "digest", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    size: int
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("onnx", "layers", "calibration", "evaluation", "quantize", "analyze", "plan", "rescale", "deadline_seconds")
    ONNX_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    QUANTIZE_FIELD_NUMBER: _ClassVar[int]
    ANALYZE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    RESCALE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    onnx: OnnxModel
    layers: LayerModel
    calibration: _containers.RepeatedCompositeFieldContainer[InputFile]
    evaluation: _containers.RepeatedCompositeFieldContainer[InputFile]
    quantize: _quantize_pb2.QuantizeSpec
    analyze: _quantize_pb2.AnalyzeSpec
    plan: _quantize_pb2.PlanSpec
    rescale: RescaleSpec
    deadline_seconds: int
    def __init__(self, onnx: _Optional[_Union[OnnxModel, _Mapping]] = ..., layers: _Optional[_Union[LayerModel, _Mapping]] = ..., calibration: _Optional[_Iterable[_Union[InputFile, _Mapping]]] = ..., evaluation: _Optional[_Iterable[_Union[InputFile, _Mapping]]] = ..., quantize: _Optional[_Union[_quantize_pb2.QuantizeSpec, _Mapping]] = ..., analyze: _Optional[_Union[_quantize_pb2.AnalyzeSpec, _Mapping]] = ..., plan: _Optional[_Union[_quantize_pb2.PlanSpec, _Mapping]] = ..., rescale: _Optional[_Union[RescaleSpec, _Mapping]] = ..., deadline_seconds: _Optional[int] = ...) -> None: ...

class RescaleSpec(_message.Message):
    __slots__ = ("statistics",)
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    statistics: InputFile
    def __init__(self, statistics: _Optional[_Union[InputFile, _Mapping]] = ...) -> None: ...

class OnnxModel(_message.Message):
    __slots__ = ("model", "external_data")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_DATA_FIELD_NUMBER: _ClassVar[int]
    model: InputFile
    external_data: _containers.RepeatedCompositeFieldContainer[InputFile]
    def __init__(self, model: _Optional[_Union[InputFile, _Mapping]] = ..., external_data: _Optional[_Iterable[_Union[InputFile, _Mapping]]] = ...) -> None: ...

class LayerModel(_message.Message):
    __slots__ = ("weights",)
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    weights: InputFile
    def __init__(self, weights: _Optional[_Union[InputFile, _Mapping]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("name", "display_name", "spec", "spec_digest", "state", "create_time", "start_time", "end_time", "stages", "error", "artifacts", "last_sequence", "owner", "priority", "trace_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    spec: JobSpec
    spec_digest: str
    state: JobState
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    stages: _containers.RepeatedCompositeFieldContainer[StageProgress]
    error: JobError
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    last_sequence: int
    owner: str
    priority: Priority
    trace_id: str
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., spec_digest: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stages: _Optional[_Iterable[_Union[StageProgress, _Mapping]]] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., last_sequence: _Optional[int] = ..., owner: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., trace_id: _Optional[str] = ...) -> None: ...

class StageProgress(_message.Message):
    __slots__ = ("stage", "tasks", "done", "running")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    stage: str
    tasks: int
    done: int
    running: int
    def __init__(self, stage: _Optional[str] = ..., tasks: _Optional[int] = ..., done: _Optional[int] = ..., running: _Optional[int] = ...) -> None: ...

class JobError(_message.Message):
    __slots__ = ("code", "message", "task", "attempts")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    task: str
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptError]
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., task: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[AttemptError, _Mapping]]] = ...) -> None: ...

class AttemptError(_message.Message):
    __slots__ = ("attempt", "worker", "message", "time")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    worker: str
    message: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, attempt: _Optional[int] = ..., worker: _Optional[str] = ..., message: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("name", "digest", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    size: int
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("spec", "display_name", "request_id", "validate_only", "priority")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    spec: JobSpec
    display_name: str
    request_id: str
    validate_only: bool
    priority: Priority
    def __init__(self, spec: _Optional[_Union[JobSpec, _Mapping]] = ..., display_name: _Optional[str] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RetryJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("name", "after_sequence")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    after_sequence: int
    def __init__(self, name: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("sequence", "time", "detail")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    detail: EventDetail
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., detail: _Optional[_Union[EventDetail, _Mapping]] = ...) -> None: ...

class EventDetail(_message.Message):
    __slots__ = ("state_changed", "stage_started", "task_done", "task_retried", "notice", "layer_measured", "layer_accumulated", "output_measured", "mended", "operator_measured", "sensitivity_measured")
    STATE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    STAGE_STARTED_FIELD_NUMBER: _ClassVar[int]
    TASK_DONE_FIELD_NUMBER: _ClassVar[int]
    TASK_RETRIED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    LAYER_MEASURED_FIELD_NUMBER: _ClassVar[int]
    LAYER_ACCUMULATED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_MEASURED_FIELD_NUMBER: _ClassVar[int]
    MENDED_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_MEASURED_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_MEASURED_FIELD_NUMBER: _ClassVar[int]
    state_changed: StateChanged
    stage_started: StageStarted
    task_done: TaskDone
    task_retried: TaskRetried
    notice: Notice
    layer_measured: _quantize_pb2.LayerMeasured
    layer_accumulated: _quantize_pb2.LayerAccumulated
    output_measured: _quantize_pb2.OutputMeasured
    mended: _quantize_pb2.MendStep
    operator_measured: _quantize_pb2.OperatorMeasured
    sensitivity_measured: _quantize_pb2.SensitivityMeasured
    def __init__(self, state_changed: _Optional[_Union[StateChanged, _Mapping]] = ..., stage_started: _Optional[_Union[StageStarted, _Mapping]] = ..., task_done: _Optional[_Union[TaskDone, _Mapping]] = ..., task_retried: _Optional[_Union[TaskRetried, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., layer_measured: _Optional[_Union[_quantize_pb2.LayerMeasured, _Mapping]] = ..., layer_accumulated: _Optional[_Union[_quantize_pb2.LayerAccumulated, _Mapping]] = ..., output_measured: _Optional[_Union[_quantize_pb2.OutputMeasured, _Mapping]] = ..., mended: _Optional[_Union[_quantize_pb2.MendStep, _Mapping]] = ..., operator_measured: _Optional[_Union[_quantize_pb2.OperatorMeasured, _Mapping]] = ..., sensitivity_measured: _Optional[_Union[_quantize_pb2.SensitivityMeasured, _Mapping]] = ...) -> None: ...

class StateChanged(_message.Message):
    __slots__ = ("state", "error", "artifacts")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    state: JobState
    error: JobError
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    def __init__(self, state: _Optional[_Union[JobState, str]] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ...) -> None: ...

class StageStarted(_message.Message):
    __slots__ = ("stage", "tasks")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    tasks: int
    def __init__(self, stage: _Optional[str] = ..., tasks: _Optional[int] = ...) -> None: ...

class TaskDone(_message.Message):
    __slots__ = ("stage", "done", "tasks")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    done: int
    tasks: int
    def __init__(self, stage: _Optional[str] = ..., done: _Optional[int] = ..., tasks: _Optional[int] = ...) -> None: ...

class TaskRetried(_message.Message):
    __slots__ = ("task", "error")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    task: str
    error: AttemptError
    def __init__(self, task: _Optional[str] = ..., error: _Optional[_Union[AttemptError, _Mapping]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("severity", "code", "subject", "message")
    class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SEVERITY_UNSPECIFIED: _ClassVar[Notice.Severity]
        INFO: _ClassVar[Notice.Severity]
        WARNING: _ClassVar[Notice.Severity]
    SEVERITY_UNSPECIFIED: Notice.Severity
    INFO: Notice.Severity
    WARNING: Notice.Severity
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    severity: Notice.Severity
    code: str
    subject: str
    message: str
    def __init__(self, severity: _Optional[_Union[Notice.Severity, str]] = ..., code: _Optional[str] = ..., subject: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
