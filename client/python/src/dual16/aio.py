"""The same for asyncio: `await aio.quantize(…)`, and a client and a job whose calls are awaited.

What blocks runs in threads. An awaited upload that is cancelled sends its current file to the end; what was sent
is kept by the server. An iteration or a wait that is cancelled ends at once, and the job goes on.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from . import _calls, client, jobs
from ._calls import Blocking
from .events import Event, LayerMeasured, State
from .progress import Display

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


def _awaited(call: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A function that blocks, in a thread."""

    @functools.wraps(call)
    async def awaited(*args: P.args, **given: P.kwargs) -> T:
        return await asyncio.to_thread(call, *args, **given)

    return awaited


def _method(call: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[Blocking[S], P], Coroutine[Any, Any, T]]:
    """A method of what blocks, in a thread."""

    @functools.wraps(call)
    async def method(self: Blocking[S], /, *args: P.args, **given: P.kwargs) -> T:
        return await asyncio.to_thread(call, self.sync, *args, **given)

    return method


def _job_of(
    call: Callable[Concatenate[S, P], jobs.Job[R]],
) -> Callable[Concatenate[Blocking[S], P], Coroutine[Any, Any, Job[R]]]:
    """The same of a method that returns a job."""

    @functools.wraps(call)
    async def method(self: Blocking[S], /, *args: P.args, **given: P.kwargs) -> Job[R]:
        return Job(await asyncio.to_thread(call, self.sync, *args, **given))

    return method


quantize = _awaited(_calls.quantize)
plan = _awaited(_calls.plan)
analyze = _awaited(_calls.analyze)
rescale = _awaited(_calls.rescale)


class Client:
    """As `dual16.Client`."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        tls_ca: str | Path | None = None,
        insecure: bool = False,
        give_up_after: float = 60.0,
    ) -> None:
        self.sync = client.Client(url, token, tls_ca=tls_ca, insecure=insecure, give_up_after=give_up_after)
        """The client whose calls block."""

    @classmethod
    async def local(cls, data: str | Path | None = None, *, workers: int | None = None) -> Client:
        """As `dual16.Client.local`."""
        made = cls.__new__(cls)
        made.sync = await asyncio.to_thread(client.Client.local, data, workers=workers)
        return made

    submit = _job_of(client.Client.submit)
    submit_plan = _job_of(client.Client.submit_plan)
    submit_analysis = _job_of(client.Client.submit_analysis)
    job = _job_of(client.Client.job)
    close = _method(client.Client.close)

    async def jobs(self, limit: int = 50) -> list[Job[Any]]:
        """As `dual16.Client.jobs`."""
        return [Job(job) for job in await asyncio.to_thread(self.sync.jobs, limit)]

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Job(Generic[R]):
    """As `dual16.Job`."""

    def __init__(self, job: jobs.Job[R]) -> None:
        self.sync = job
        """The job whose calls block."""
        self.name = job.name
        """`jobs/ID`."""
        self.id = job.id
        """What `dual16 watch` takes."""

    state = _method(jobs.Job.state)
    cancel = _method(jobs.Job.cancel)
    partial = _method(jobs.Job.partial)
    retry = _method(jobs.Job.retry)
    delete = _method(jobs.Job.delete)
    rescale = _job_of(jobs.Job.rescale)

    async def events(self) -> AsyncIterator[Event]:
        """As `dual16.Job.events`."""
        watch = self.sync.events()
        loop = asyncio.get_running_loop()
        # A thread of its own: many watches would leave none of the shared ones.
        thread = ThreadPoolExecutor(1)
        try:
            while (event := await loop.run_in_executor(thread, next, watch, None)) is not None:
                yield event
        finally:
            watch.close()
            thread.shutdown(wait=False)

    async def layers(self) -> AsyncIterator[LayerMeasured]:
        """As `dual16.Job.layers`."""
        async for event in self.events():
            if isinstance(event, LayerMeasured):
                yield event

    async def wait(self, progress: bool | None = None) -> State:
        """As `dual16.Job.wait`."""
        display = Display(progress)
        try:
            async for event in self.events():
                display.show(event)
        finally:
            display.end()
        return await self.state()

    async def result(self, out: str | Path | None = None, *, progress: bool | None = None) -> R:
        """As `dual16.Job.result`."""
        await self.wait(progress)
        return await self.fetch(out)

    async def fetch(self, out: str | Path | None = None) -> R:
        """As `dual16.Job.fetch`."""
        return await asyncio.to_thread(self.sync.fetch, out)
