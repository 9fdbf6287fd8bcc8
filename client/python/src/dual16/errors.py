"""What can go wrong, by kind, with what the server says about it.

A refusal of a server has a `reason`, upper-case and stable (docs/api.md), and is of the class that says what
to do about it. The message is for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc

from . import v1


class Error(Exception):
    """Everything that this package raises beside TypeError and ValueError."""


class LocalError(Error):
    """The server of this machine cannot be started."""


class Unreachable(Error):
    """The server did not answer for as long as the client was told to try."""


class DamagedTransfer(Error):
    """What came is not what its digest names."""


class JobError(Error):
    """A job that was waited for has no results."""

    def __init__(self, message: str, job: str) -> None:
        super().__init__(message)
        self.job = job
        """`jobs/ID`."""


class JobFailed(JobError):
    """The job failed."""

    def __init__(self, job: str, code: str, message: str, task: str) -> None:
        super().__init__(f"{job} failed: {code}: {message}", job)
        self.code = code
        """Upper snake case, stable: `INVALID_MODEL`, `UNKNOWN_NAME`, `ILLEGAL_WAY` …"""
        self.detail = message
        """What the job says, without its name and code."""
        self.task = task
        """The task that failed; empty where none did."""


class JobCancelled(JobError):
    """The job was cancelled; `job.retry()` goes on with it."""


@dataclass(frozen=True)
class Violation:
    """A field of a request that is wrong."""

    field: str
    """Its path: `spec.calibration[3].digest`."""
    description: str


class Refused(Error):
    """The server said no."""

    def __init__(self, call: str, code: str, message: str, details: Details) -> None:
        fields = "".join(f"\n  {one.field}: {one.description}" for one in details.violations)
        reason = f" ({details.reason})" if details.reason else ""
        super().__init__(f"{call}: {message}{reason}{fields}")
        self.code = code
        """Of gRPC: `INVALID_ARGUMENT` …"""
        self.reason = details.reason
        """Of the server: `JOB_NOT_FOUND` …; empty where it gives none."""
        self.metadata = dict(details.metadata)
        """What belongs to the reason: `limit` and `max` of `LIMIT_EXCEEDED`."""
        self.violations = details.violations


class InvalidRequest(Refused):
    """Something in the request is wrong; `violations` says what."""


class NotFound(Refused):
    """There is no such job or blob, or none of the caller's."""


class NotAllowed(Refused):
    """The token is missing, not known, expired or lacks a role."""


class LimitExceeded(Refused):
    """More than the server takes; `metadata` has `limit` and `max`."""


class Busy(Refused):
    """Full for now: the queue, the storage, a quota. The client has tried again for its time already."""


class Conflict(Refused):
    """The job is in another state than the call needs."""


# By reason, where the server gives one; a code stands for every other reason that comes with it.
_BY_REASON: Mapping[str, type[Refused]] = {
    "LIMIT_EXCEEDED": LimitExceeded,
    "JOB_NOT_ENDED": Conflict,
    "JOB_NOT_RETRYABLE": Conflict,
    "REQUEST_ID_REUSED": Conflict,
}
_BY_CODE: Mapping[str, type[Refused]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "NOT_FOUND": NotFound,
    "UNAUTHENTICATED": NotAllowed,
    "PERMISSION_DENIED": NotAllowed,
    "RESOURCE_EXHAUSTED": Busy,
}


@dataclass(frozen=True)
class Details:
    """What a refusal carries beside code and message."""

    reason: str
    metadata: Mapping[str, str]
    violations: tuple[Violation, ...]
    retry_after: float | None
    """Seconds; None where trying again is of no use."""


def details(error: grpc.RpcError) -> Details:
    """Reads the details of a failed call."""
    reason, metadata = "", dict[str, str]()
    violations: list[Violation] = []
    retry_after: float | None = None
    for packed in _packed(error):
        kind = packed.type_url.rsplit(".", 1)[-1]
        if kind == "ErrorInfo":
            info = v1.ErrorInfo.FromString(packed.value)
            reason, metadata = info.reason, dict(info.metadata)
        elif kind == "BadRequest":
            wrong = v1.BadRequest.FromString(packed.value).field_violations
            violations += [Violation(one.field, one.description) for one in wrong]
        elif kind == "RetryInfo":
            delay = v1.RetryInfo.FromString(packed.value).retry_delay
            retry_after = delay.seconds + delay.nanos / 1e9
    return Details(reason, metadata, tuple(violations), retry_after)


def _packed(error: grpc.RpcError) -> Iterable[v1.Any]:
    if not isinstance(error, grpc.Call):
        return []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return v1.Status.FromString(value if isinstance(value, bytes) else value.encode()).details
    return []


def refused(call: str, error: grpc.RpcError) -> Refused:
    """The refusal that a failed call is."""
    found = details(error)
    code = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
    message = (error.details() if isinstance(error, grpc.Call) else None) or str(error)
    kind = _BY_REASON.get(found.reason) or _BY_CODE.get(code, Refused)
    return kind(call, code, message, found)
