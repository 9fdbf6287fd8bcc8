"""A server and its jobs."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

from . import errors, v1
from ._prepare import Priority, Request, prepare
from ._transfer import upload
from ._wire import Wire
from .batches import Data
from .events import State
from .jobs import Job
from .local import LocalServer
from .models import Model
from .plans import Plan
from .results import Result
from .sensitivity import Sensitivity
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

    @property
    def sync(self) -> Client:
        """This client: that of `aio` has one whose calls block."""
        return self

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
        priority: Priority = "normal",
    ) -> Job[Result]:
        """Queues the quantization of `model`, calibrated with `data`.

        The errors are measured on `eval_data`, by default on the same batches, of which at most `max_batches` are
        taken. The job ends with an error when it is not done in `deadline` seconds (0 = it may take any time); `name`
        is what people call it. Of jobs that wait those of a higher `priority` go first (`low`, `normal`; `high` for
        those who may). What the server has already is not sent again."""
        request = Request(model, data, eval_data, settings, max_batches, deadline, name, priority)
        return Job(self._wire, self._submit(request))

    def submit_plan(
        self,
        model: Model,
        data: Data,
        *,
        settings: Settings | None = None,
        eval_data: Data | None = None,
        max_batches: int | None = None,
        deadline: int = 0,
        name: str = "",
        priority: Priority = "normal",
    ) -> Job[Plan]:
        """Queues the question what `submit` of the same would do."""
        kind = v1.PlanSpec()
        request = Request(model, data, eval_data, settings, max_batches, deadline, name, priority, kind)
        return Job(self._wire, self._submit(request))

    def submit_analysis(
        self,
        model: Model,
        data: Data,
        *,
        exact: int | None = None,
        outputs: Collection[str] = (),
        metric: str = "sqnr",
        settings: Settings | None = None,
        eval_data: Data | None = None,
        max_batches: int | None = None,
        deadline: int = 0,
        name: str = "",
        priority: Priority = "normal",
    ) -> Job[Sensitivity]:
        """Queues the question what each fake quant of `submit` alone costs the model's outputs.

        The `exact` rows that cost most by estimate are measured, by default all. `outputs` are those that count, by
        name, by default all; `metric` is what the rows are sorted by: `sqnr`, `cosine`, `l1`, `mse`, `atol`, `rtol` or
        `kl`. The rest as `submit`."""
        kind = v1.AnalyzeSpec(exact=exact, outputs=outputs, metric=metric)
        request = Request(model, data, eval_data, settings, max_batches, deadline, name, priority, kind)
        return Job(self._wire, self._submit(request))

    def _submit(self, request: Request) -> str:
        """The name of the job that does what is asked for."""
        with tempfile.TemporaryDirectory(prefix="dual16-") as folder:
            prepared = prepare(request, Path(folder))
            # On this machine the same work is the same job, to go on with.
            spec = prepared.spec.SerializeToString(deterministic=True)
            again = hashlib.sha256(spec).hexdigest() if self._local else str(uuid.uuid4())
            create = v1.CreateJobRequest(
                spec=prepared.spec,
                display_name=prepared.name,
                request_id=again,
                priority=request.priority.upper(),
            )
            for tries in range(1, CREATE_TRIES + 1):
                upload(self._wire, prepared.files)
                try:
                    job = self._wire.create_job(create)
                    break
                except errors.Refused as error:
                    if error.reason != "BLOBS_MISSING" or tries == CREATE_TRIES:
                        raise
        if State(int(job.state)) in (State.FAILED, State.CANCELLED):
            self._wire.retry_job(job.name)
        return job.name

    def job(self, name: str) -> Job[Any]:
        """A job that exists, by its name (`jobs/ID`) or id.

        Raises errors.NotFound.
        """
        full = name if name.startswith("jobs/") else f"jobs/{name}"
        return Job(self._wire, self._wire.get_job(full).name)

    def jobs(self, limit: int = 50) -> list[Job[Any]]:
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
