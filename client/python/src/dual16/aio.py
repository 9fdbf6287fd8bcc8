"""The same for asyncio: `await aio.quantize(…)`, and a client and a job whose calls are awaited.

What blocks runs in threads. An awaited upload that is cancelled sends its current file to the end; what was sent
is kept by the server. An iteration or a wait that is cancelled ends at once, and the job goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from . import _quantize, client
from .batches import Data
from .events import Event, LayerMeasured, State
from .models import Model
from .progress import Display
from .results import Partial, Result
from .settings import Settings


async def quantize(
    model: Model,
    data: Data,
    *,
    out: str | Path | None = None,
    client: Client | None = None,
    settings: Settings | None = None,
    eval_data: Data | None = None,
    max_batches: int | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Result:
    """As `dual16.quantize`."""
    return await asyncio.to_thread(
        _quantize.quantize,
        model,
        data,
        out=out,
        client=client.sync if client is not None else None,
        settings=settings,
        eval_data=eval_data,
        max_batches=max_batches,
        workers=workers,
        progress=progress,
    )


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

    async def submit(
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
        """As `dual16.Client.submit`."""
        job = await asyncio.to_thread(
            self.sync.submit,
            model,
            data,
            settings=settings,
            eval_data=eval_data,
            max_batches=max_batches,
            deadline=deadline,
            name=name,
        )
        return Job(job)

    async def job(self, name: str) -> Job:
        """As `dual16.Client.job`."""
        return Job(await asyncio.to_thread(self.sync.job, name))

    async def jobs(self, limit: int = 50) -> list[Job]:
        """As `dual16.Client.jobs`."""
        return [Job(job) for job in await asyncio.to_thread(self.sync.jobs, limit)]

    async def close(self) -> None:
        """As `dual16.Client.close`."""
        await asyncio.to_thread(self.sync.close)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Job:
    """As `dual16.Job`."""

    def __init__(self, job: client.Job) -> None:
        self.sync = job
        """The job whose calls block."""
        self.name = job.name
        """`jobs/ID`."""
        self.id = job.id
        """What `dual16 watch` takes."""

    async def state(self) -> State:
        """Where the job is now."""
        return await asyncio.to_thread(self.sync.state)

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

    async def result(self, out: str | Path | None = None, *, progress: bool | None = None) -> Result:
        """As `dual16.Job.result`."""
        await self.wait(progress)
        return await self.fetch(out)

    async def fetch(self, out: str | Path | None = None) -> Result:
        """As `dual16.Job.fetch`."""
        return await asyncio.to_thread(self.sync.fetch, out)

    async def cancel(self) -> Partial:
        """As `dual16.Job.cancel`."""
        return await asyncio.to_thread(self.sync.cancel)

    async def partial(self) -> Partial:
        """As `dual16.Job.partial`."""
        return await asyncio.to_thread(self.sync.partial)

    async def retry(self) -> None:
        """As `dual16.Job.retry`."""
        await asyncio.to_thread(self.sync.retry)

    async def delete(self) -> None:
        """As `dual16.Job.delete`."""
        await asyncio.to_thread(self.sync.delete)
