"""A job on a server, and its events."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import grpc

from . import errors, events, v1
from ._transfer import download
from ._wire import EventStream, Wire
from .events import Event, LayerMeasured, Notice, OutputMeasured, SensitivityMeasured, State
from .plans import Plan
from .progress import Display
from .rescaling import Changes
from .results import Partial, Result
from .sensitivity import Sensitivity

R = TypeVar("R")

# What a job's results are, by the kind in its spec; those of quantize and rescale are a Result.
_READERS: Mapping[str, type[Plan] | type[Sensitivity]] = {"plan": Plan, "analyze": Sensitivity}


class Watch(Iterator[Event]):
    """A job's events, each once and in order, whatever happens to the connection. `close` ends it, from any thread."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire, self._name = wire, name
        self._last, self._closed = 0, False
        self._stream: EventStream | None = None
        self._outage = wire.outage("WatchJob")

    def __next__(self) -> Event:
        while (message := self.message()) is not None:
            event = events.of_message(message.detail)
            if event is not None:
                return event
        raise StopIteration

    def message(self) -> v1.JobEvent | None:
        """The next event as it came; None once the job has ended and every event was handed out."""
        while not self._closed:
            try:
                if self._stream is None:
                    self._stream = self._wire.watch(self._name, self._last)
                message = next(self._stream, None)
            except grpc.RpcError as error:
                self._stream = None
                if not self._closed:
                    self._outage.wait(error)
                continue
            if message is not None:
                self._outage.over()
                self._last = message.sequence
                return message
            self._stream = None
            # A watch that began after the last event never sees the change of state.
            job = self._wire.get_job(self._name)
            if State(int(job.state)).ended and job.last_sequence <= self._last:
                break
        return None

    def close(self) -> None:
        """Ends the iteration."""
        self._closed = True
        if self._stream is not None:
            self._stream.cancel()


class Job(Generic[R]):
    """A job on a server, whose results are an R: a `Result`, a `Plan` or a `Sensitivity`."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self.name = name
        """`jobs/ID`."""

    def __repr__(self) -> str:
        return f"Job({self.name!r} on {self._wire.url})"

    @property
    def sync(self) -> Job[R]:
        """This job: that of `aio` has one whose calls block."""
        return self

    @property
    def id(self) -> str:
        """What `dual16 watch` takes."""
        return self.name.removeprefix("jobs/")

    def state(self) -> State:
        """Where the job is now."""
        return State(int(self._wire.get_job(self.name).state))

    def events(self) -> Watch:
        """Every event from the first one on, as it comes, until the job has ended."""
        return Watch(self._wire, self.name)

    def layers(self) -> Iterator[LayerMeasured]:
        """Each layer once its ways have been measured. A layer that gets another way for the outputs' sake is told of
        again: the newest counts."""
        return (event for event in self.events() if isinstance(event, LayerMeasured))

    def wait(self, progress: bool | None = None) -> State:
        """Waits until the job has ended. progress=None shows it on a terminal and in a notebook."""
        display = Display(progress)
        try:
            for event in self.events():
                display.show(event)
        finally:
            display.end()
        return self.state()

    def result(self, out: str | Path | None = None, *, progress: bool | None = None) -> R:
        """Waits for the job and brings its results into the folder `out`; without one, into a temporary folder that
        goes with the result.

        Raises errors.JobFailed and errors.JobCancelled.
        """
        self.wait(progress)
        return self.fetch(out)

    def fetch(self, out: str | Path | None = None) -> R:
        """As `result`, of a job that has ended."""
        job = self._ended()
        keep = tempfile.TemporaryDirectory(prefix="dual16-") if out is None else None
        folder = Path(keep.name if keep else out or os.curdir)
        for artifact in job.artifacts:
            download(self._wire, artifact, folder)
        reads = _READERS.get(job.spec.WhichOneof("kind") or "", Result)
        return cast(R, reads(folder, keep))

    def rescale(self, changes: Changes | None = None) -> Job[Result]:
        """Queues scales, plan and weights once more from what this job, one of `quantize`, observed. No batch is run
        but one, for the shapes, so the results have no errors.

        Raises errors.JobError where the job has no results or is of another kind, and as `fetch`.
        """
        job = self._ended()
        artifacts = {artifact.name: artifact for artifact in job.artifacts}
        if "statistics.bin" not in artifacts:
            raise errors.JobError(f"{self.name} observed nothing: only what quantize made can be rescaled", self.name)
        with tempfile.TemporaryDirectory(prefix="dual16-") as folder:
            plan = json.loads(download(self._wire, artifacts["plan.json"], Path(folder)).read_text(encoding="utf-8"))
        spec = (changes or Changes()).spec(job.spec, artifacts["statistics.bin"], plan)
        create = v1.CreateJobRequest(
            spec=spec, display_name=job.display_name, request_id=str(uuid.uuid4()), priority=job.priority
        )
        return Job(self._wire, self._wire.create_job(create).name)

    def _ended(self) -> v1.Job:
        """The job, which has succeeded."""
        job = self._wire.get_job(self.name)
        state = State(int(job.state))
        if state is State.FAILED:
            raise errors.JobFailed(self.name, job.error.code, job.error.message, job.error.task)
        if state is State.CANCELLED:
            raise errors.JobCancelled(f"{self.name} was cancelled", self.name)
        if not state.ended:
            raise errors.JobError(f"{self.name} is not done yet; wait for it", self.name)
        return job

    def cancel(self) -> Partial:
        """Stops the job, and returns what it has found by then. A job that has ended stays as it is."""
        self._wire.cancel_job(self.name)
        return self.partial()

    def partial(self) -> Partial:
        """What the job has told so far. Does not wait for it."""
        found = Partial()
        last = self._wire.get_job(self.name).last_sequence
        watch = self.events()
        while last > 0 and (message := watch.message()) is not None:
            event = events.of_message(message.detail)
            if isinstance(event, LayerMeasured):
                found.layers[event.name] = event
            elif isinstance(event, OutputMeasured):
                found.outputs[event.name] = event
            elif isinstance(event, SensitivityMeasured):
                found.rows.append(event)
            elif isinstance(event, Notice):
                found.notices.append(event)
            if message.sequence >= last:
                break
        watch.close()
        return found

    def retry(self) -> None:
        """Goes on with a job that failed or was cancelled; what succeeded is kept."""
        self._wire.retry_job(self.name)

    def delete(self) -> None:
        """Removes a job that has ended."""
        self._wire.delete_job(self.name)
