"""Calls to a server: who is calling, which failures are tried again and for how long.

A server that is away is tried again with growing pauses, and so is one that asks for it; what is refused is
raised at once. Knows nothing of jobs beyond the names of the calls.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, cast
from urllib.parse import urlsplit

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from . import errors, v1
from ._direct import Direct

T = TypeVar("T")
R = TypeVar("R", bound=Message)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
# A list of a large job's artifacts and events is small; a spec of many batches is not.
_OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.keepalive_time_ms", 30_000)]


class EventStream(Protocol):
    """A call that answers with events until it is cancelled."""

    def __next__(self) -> v1.JobEvent: ...

    def __iter__(self) -> Iterator[v1.JobEvent]: ...

    def cancel(self) -> bool: ...


class Outage:
    """The failures of one call since it last made progress."""

    def __init__(self, call: str, url: str, give_up_after: float) -> None:
        self._call, self._url, self._give_up_after = call, url, give_up_after
        self.over()

    def over(self) -> None:
        """The call made progress: the next failure begins a new outage."""
        self._began: float | None = None
        self._pause = FIRST_PAUSE

    def wait(self, error: grpc.RpcError) -> None:
        """Pauses before the next try.

        Raises errors.Refused where trying again is of no use, errors.Unreachable when it has been tried for too
        long.
        """
        code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
        asked = errors.details(error).retry_after
        if code is not grpc.StatusCode.UNAVAILABLE and asked is None:
            raise errors.refused(self._call, error) from error
        now = time.monotonic()
        if self._began is None:
            self._began = now
        left = self._give_up_after - (now - self._began)
        if left <= 0:
            if code is not grpc.StatusCode.UNAVAILABLE:
                raise errors.refused(self._call, error) from error
            message = error.details() if isinstance(error, grpc.Call) else str(error)
            raise errors.Unreachable(
                f"{self._url} did not answer {self._call} for {self._give_up_after:.0f} s: {message}"
            ) from error
        # Those whom one full server sent away at once must not come back at once.
        pause = max(self._pause, asked or 0) * random.uniform(1, 1.5)
        time.sleep(min(pause, left))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


class Wire:
    """A channel and its calls."""

    def __init__(self, url: str, token: str | None, tls_ca: bytes | None, insecure: bool, give_up_after: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of a server; it must be http://HOST:PORT or https://HOST:PORT")
        secure = parts.scheme == "https"
        if token and not secure and not insecure and not _is_loopback(parts.hostname):
            raise ValueError(
                "the token would cross the network in the clear; use https://, or insecure=True if something "
                "else encrypts the way"
            )
        port = parts.port or (443 if secure else 80)
        target = f"{parts.hostname}:{port}" if ":" not in parts.hostname else f"[{parts.hostname}]:{port}"
        self.url, self._give_up_after = url, give_up_after
        self.direct = Direct()
        self._metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials(tls_ca), options=_OPTIONS)
            if secure
            else grpc.insecure_channel(target, options=_OPTIONS)
        )

    def close(self) -> None:
        """Ends every call."""
        self._channel.close()

    def outage(self, call: str) -> Outage:
        """For a call that is repeated by its caller."""
        return Outage(call, self.url, self._give_up_after)

    def persist(self, call: str, work: Callable[[], T]) -> T:
        """Does `work`, which a failure leaves nothing of, until it succeeds or trying again is of no use."""
        outage = self.outage(call)
        while True:
            try:
                return work()
            except grpc.RpcError as error:
                outage.wait(error)

    def _unary(self, method: str, request: Message, answer: type[R]) -> R:
        call = self._channel.unary_unary(
            f"/dual16.v1.{method}",
            request_serializer=_bytes_of,
            response_deserializer=answer.FromString,
        )
        return self.persist(method.split("/")[1], lambda: call(request, metadata=self._metadata))

    def create_job(self, request: v1.CreateJobRequest) -> v1.Job:
        """Repeatable, for the request has an id."""
        return self._unary("JobService/CreateJob", request, v1.Job)

    def get_job(self, name: str) -> v1.Job:
        return self._unary("JobService/GetJob", v1.GetJobRequest(name=name), v1.Job)

    def list_jobs(self, limit: int) -> v1.ListJobsResponse:
        return self._unary("JobService/ListJobs", v1.ListJobsRequest(page_size=limit), v1.ListJobsResponse)

    def cancel_job(self, name: str) -> v1.Job:
        return self._unary("JobService/CancelJob", v1.CancelJobRequest(name=name), v1.Job)

    def retry_job(self, name: str) -> v1.Job:
        return self._unary("JobService/RetryJob", v1.RetryJobRequest(name=name), v1.Job)

    def delete_job(self, name: str) -> None:
        self._unary("JobService/DeleteJob", v1.DeleteJobRequest(name=name), Empty)

    def find_missing(self, digests: list[str]) -> set[str]:
        request = v1.FindMissingRequest(digests=digests)
        return set(self._unary("BlobService/FindMissing", request, v1.FindMissingResponse).missing)

    def query_upload(self, digest: str) -> v1.QueryUploadResponse:
        request = v1.QueryUploadRequest(digest=digest)
        return self._unary("BlobService/QueryUpload", request, v1.QueryUploadResponse)

    def upload(self, messages: Iterator[v1.UploadRequest]) -> v1.UploadResponse:
        """Once: the caller finds out how much was kept, and goes on from there. Raises grpc.RpcError."""
        call = self._channel.stream_unary(
            "/dual16.v1.BlobService/Upload",
            request_serializer=v1.UploadRequest.SerializeToString,
            response_deserializer=v1.UploadResponse.FromString,
        )
        return call(messages, metadata=self._metadata)

    def download(self, digest: str, offset: int, accept_url: bool) -> Iterable[v1.DownloadResponse]:
        """Once, from `offset`; the only message may be a URL. Raises grpc.RpcError while it is read."""
        call = self._channel.unary_stream(
            "/dual16.v1.BlobService/Download",
            request_serializer=v1.DownloadRequest.SerializeToString,
            response_deserializer=v1.DownloadResponse.FromString,
        )
        request = v1.DownloadRequest(digest=digest, offset=offset, accept_url=accept_url)
        return call(request, metadata=self._metadata)

    def watch(self, name: str, after: int) -> EventStream:
        """Once, from the event after `after`. Raises grpc.RpcError while it is read."""
        call = self._channel.unary_stream(
            "/dual16.v1.JobService/WatchJob",
            request_serializer=v1.WatchJobRequest.SerializeToString,
            response_deserializer=v1.JobEvent.FromString,
        )
        return cast(EventStream, call(v1.WatchJobRequest(name=name, after_sequence=after), metadata=self._metadata))


def _bytes_of(message: Message) -> bytes:
    return message.SerializeToString()


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
