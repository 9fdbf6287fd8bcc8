"""The whole way from a model to results in one call."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ._prepare import Priority
from .batches import Data
from .client import Client
from .jobs import Job
from .models import Model
from .plans import Plan
from .rescaling import Changes
from .results import Result
from .sensitivity import Sensitivity
from .settings import Settings

# Where the command line keeps the state of a local job, too.
STATE_FOLDER = ".dual16"

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")


class Blocking(Protocol[T_co]):
    """A client or a job, of this package or of `aio`."""

    @property
    def sync(self) -> T_co: ...


def quantize(
    model: Model,
    data: Data,
    *,
    out: str | Path | None = None,
    client: Blocking[Client] | None = None,
    settings: Settings | None = None,
    eval_data: Data | None = None,
    max_batches: int | None = None,
    priority: Priority = "normal",
    workers: int | None = None,
    progress: bool | None = None,
) -> Result:
    """Quantizes `model`, calibrated with `data`, and returns what came of it.

    Everything runs on this machine unless `client` names a server. `model` is a `torch.nn.Module` (exported as it
    evaluates), the path of an ONNX file, or layers (see `dual16.Model`); `data` are batches (see `dual16.Data`), of
    which at most `max_batches` are taken. The errors are measured on `eval_data`, by default on the same batches. On a
    server jobs of a higher `priority` go first: `low`, `normal`, or `high` for those who may. The files of the result
    go into the folder `out`; without one, into a temporary folder that goes with the result.

    Interrupted with `out` given, a local job goes on with the same call: its state is in `OUT/.dual16`. `workers`
    tasks run at the same time on this machine, by default one for each core. progress=None shows it on a terminal and
    in a notebook.

    Raises errors.JobFailed where the model or the data are wrong, and other subclasses of errors.Error.
    """

    def submit(to: Client) -> Job[Result]:
        return to.submit(
            model, data, settings=settings, eval_data=eval_data, max_batches=max_batches, priority=priority
        )

    return _to_end(submit, out, client, workers, progress)


def plan(
    model: Model,
    data: Data,
    *,
    out: str | Path | None = None,
    client: Blocking[Client] | None = None,
    settings: Settings | None = None,
    eval_data: Data | None = None,
    max_batches: int | None = None,
    priority: Priority = "normal",
    workers: int | None = None,
    progress: bool | None = None,
) -> Plan:
    """What `quantize` of the same would do, before any batch is run: the way that each Linear would start with and
    those that are legal, what it would cost, and what settings may call each operation.

    The arguments are those of `quantize`; `out` gets `plan.json`.
    """

    def submit(to: Client) -> Job[Plan]:
        return to.submit_plan(
            model, data, settings=settings, eval_data=eval_data, max_batches=max_batches, priority=priority
        )

    return _to_end(submit, out, client, workers, progress)


def analyze(
    model: Model,
    data: Data,
    *,
    exact: int | None = None,
    outputs: Collection[str] = (),
    metric: str = "sqnr",
    out: str | Path | None = None,
    client: Blocking[Client] | None = None,
    settings: Settings | None = None,
    eval_data: Data | None = None,
    max_batches: int | None = None,
    priority: Priority = "normal",
    workers: int | None = None,
    progress: bool | None = None,
) -> Sensitivity:
    """What each fake quant of `quantize` of the same alone costs the model's outputs, everything else in float.

    `exact`, `outputs` and `metric` as `dual16.Client.submit_analysis`, the rest as `quantize`; `out` gets
    `sensitivity.json`, `sensitivity.csv` and the vendor's tables. Interrupted with `out` given, the same call goes on.
    """

    def submit(to: Client) -> Job[Sensitivity]:
        return to.submit_analysis(
            model,
            data,
            exact=exact,
            outputs=outputs,
            metric=metric,
            settings=settings,
            eval_data=eval_data,
            max_batches=max_batches,
            priority=priority,
        )

    return _to_end(submit, out, client, workers, progress)


def rescale(
    job: Blocking[Job[Any]],
    changes: Changes | None = None,
    *,
    out: str | Path | None = None,
    progress: bool | None = None,
) -> Result:
    """Scales, plan and weights once more, with `changes`, from what a `job` of `Client.submit` observed, and on its
    server: seconds where its batches took minutes. The results have no errors; `quantize` measures.

    On this machine jobs are those of `Client.local`; `quantize` without a client leaves none. Raises errors.JobError
    where the job has no results or is of another kind, errors.JobFailed where it did not observe what `changes` need.
    """
    return job.sync.rescale(changes).result(out, progress=progress)


def _to_end(
    submit: Callable[[Client], Job[R]],
    out: str | Path | None,
    client: Blocking[Client] | None,
    workers: int | None,
    progress: bool | None,
) -> R:
    """What a job brings that is submitted to `client`, or to a server of this machine for as long as it takes."""
    if client is not None:
        if workers is not None:
            raise ValueError("workers are those of this machine, and client is a server with its own; leave one out")
        return submit(client.sync).result(out, progress=progress)
    with tempfile.TemporaryDirectory(prefix="dual16-") as temporary:
        state = Path(temporary if out is None else out) / STATE_FOLDER
        with Client.local(state, workers=workers) as local:
            job = submit(local)
            result = job.result(out, progress=progress)
            job.delete()
            left = local.jobs(1)
        if not left:
            shutil.rmtree(state)
    return result
