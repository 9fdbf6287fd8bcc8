"""A server and its jobs."""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import grpc

from . import errors, events, v1
from ._prepare import Request, prepare
from ._transfer import download, upload
from ._wire import EventStream, Wire
from .batches import Data
from .events import Event, LayerMeasured, Notice, OutputMeasured, State
from .local import LocalServer
from .models import Model
from .progress import Display
from .results import Partial, Result
from .settings import Settings

# What was uploaded may be collected before a job names it.
CREATE_TRIES = 3


class Client:
    """An open way to a server.

    Calls are tried again for `give_up_after` seconds while the server is away or full; then errors.Unreachable or
    errors.Busy is raised. Safe to use from several threads.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        tls_ca: str | Path | None = None,
        insecure: bool = False,
        give_up_after: float = 60.0,
    ) -> None:
        """`url` is http://HOST:PORT or https://HOST:PORT; `tls_ca` a PEM file of the authority that signed the server's
        certificate, instead of the system's; `insecure` lets the token cross the network in the clear."""
        authority = Path(tls_ca).read_bytes() if tls_ca is not None else None
        self._wire = Wire(url, token, authority, insecure, give_up_after)
        self._local: LocalServer | None = None
        self._state: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def local(cls, data: str | Path | None = None, *, workers: int | None = None) -> Client:
        """A server on this machine, for this process alone; it ends with it.

        Its state lies in the folder `data`, where the same job goes on after an interruption; without one, in a
        temporary folder. `workers` tasks run at the same time, by default one for each core.
        """
        state = tempfile.TemporaryDirectory(prefix="dual16-") if data is None else None
        server = LocalServer(Path(state.name if state else data or ""), workers)
        client = cls(server.url, server.token)
        client._local, client._state = server, state
        return client

    @property
    def url(self) -> str:
        """The server's URL."""
        return self._wire.url

    def submit(
        self,
        model: Model,
        data: Data,
        *,
        settings: Settings | None = None,
        eval_data: Data | None = None,
        max_batches: int | None = None,
        deadline: int = 0,
        name: str = "",
    ) -> Job:
        """Queues the quantization of `model`, calibrated with `data`.

        The errors are measured on `eval_data`, by default on the same batches, of which at most `max_batches` are
        taken. The job ends with an error when it is not done in `deadline` seconds (0 = it may take any time); `name`
        is what people call it. What the server has already is not sent again."""
        request = Request(model, data, eval_data, settings or Settings(), max_batches, deadline, name)
        with tempfile.TemporaryDirectory(prefix="dual16-") as folder:
            prepared = prepare(request, Path(folder))
            # On this machine the same work is the same job, to go on with.
            spec = prepared.spec.SerializeToString(deterministic=True)
            again = hashlib.sha256(spec).hexdigest() if self._local else str(uuid.uuid4())
            create = v1.CreateJobRequest(spec=prepared.spec, display_name=prepared.name, request_id=again)
            for tries in range(1, CREATE_TRIES + 1):
                upload(self._wire, prepared.files)
                try:
                    job = self._wire.create_job(create)
                    break
                except errors.Refused as error:
                    if error.reason != "BLOBS_MISSING" or tries == CREATE_TRIES:
                        raise
        submitted = Job(self._wire, job.name)
        if State(int(job.state)) in (State.FAILED, State.CANCELLED):
            submitted.retry()
        return submitted

    def job(self, name: str) -> Job:
        """A job that exists, by its name (`jobs/ID`) or id.

        Raises errors.NotFound.
        """
        full = name if name.startswith("jobs/") else f"jobs/{name}"
        return Job(self._wire, self._wire.get_job(full).name)

    def jobs(self, limit: int = 50) -> list[Job]:
        """The newest jobs, newest first."""
        return [Job(self._wire, job.name) for job in self._wire.list_jobs(limit).jobs]

    def close(self) -> None:
        """Closes the connection, and ends a server that was started for this client."""
        self._wire.close()
        if self._local is not None:
            self._local.close()
        if self._state is not None:
            self._state.cleanup()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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


class Job:
    """A job on a server."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self.name = name
        """`jobs/ID`."""

    def __repr__(self) -> str:
        return f"Job({self.name!r} on {self._wire.url})"

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

    def result(self, out: str | Path | None = None, *, progress: bool | None = None) -> Result:
        """Waits for the job and brings its results into the folder `out`; without one, into a temporary folder that
        goes with the result.

        Raises errors.JobFailed and errors.JobCancelled.
        """
        self.wait(progress)
        return self.fetch(out)

    def fetch(self, out: str | Path | None = None) -> Result:
        """As `result`, of a job that has ended."""
        job = self._wire.get_job(self.name)
        state = State(int(job.state))
        if state is State.FAILED:
            raise errors.JobFailed(self.name, job.error.code, job.error.message, job.error.task)
        if state is State.CANCELLED:
            raise errors.JobCancelled(f"{self.name} was cancelled", self.name)
        if not state.ended:
            raise errors.JobError(f"{self.name} is not done yet; wait for it", self.name)
        keep = tempfile.TemporaryDirectory(prefix="dual16-") if out is None else None
        folder = Path(keep.name if keep else out or os.curdir)
        folder.mkdir(parents=True, exist_ok=True)
        for artifact in job.artifacts:
            download(self._wire, artifact, folder)
        return Result(folder, keep)

    def cancel(self) -> Partial:
        """Stops the job, and returns what it has found by then. A job that has ended stays as it is."""
        self._wire.cancel_job(self.name)
        return self.partial()

    def partial(self) -> Partial:
        """What the job has told so far. Does not wait for it."""
        found = Partial({}, {}, [])
        last = self._wire.get_job(self.name).last_sequence
        watch = self.events()
        while last > 0 and (message := watch.message()) is not None:
            event = events.of_message(message.detail)
            if isinstance(event, LayerMeasured):
                found.layers[event.name] = event
            elif isinstance(event, OutputMeasured):
                found.outputs[event.name] = event
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
