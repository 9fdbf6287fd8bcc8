"""The whole way from a model to its results in one call."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from .batches import Data
from .client import Client
from .models import Model
from .results import Result
from .settings import Settings

# Where the command line keeps the state of a local job, too.
STATE_FOLDER = ".dual16"


def quantize(
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
    """Quantizes `model`, calibrated with `data`, and returns what came of it.

    Everything runs on this machine unless `client` names a server. `model` is a `torch.nn.Module` (exported as it
    evaluates), the path of an ONNX file, or layers (see `dual16.Model`); `data` are batches (see `dual16.Data`), of
    which at most `max_batches` are taken. The errors are measured on `eval_data`, by default on the same batches. The
    files of the result go into the folder `out`; without one, into a temporary folder that goes with the result.

    Interrupted with `out` given, a local job goes on with the same call: its state is in `OUT/.dual16`. `workers`
    tasks run at the same time on this machine, by default one for each core. progress=None shows it on a terminal and
    in a notebook.

    Raises errors.JobFailed where the model or the data are wrong, and other subclasses of errors.Error.
    """
    if client is not None:
        if workers is not None:
            raise ValueError("workers are those of this machine, and client is a server with its own; leave one out")
        job = client.submit(model, data, settings=settings, eval_data=eval_data, max_batches=max_batches)
        return job.result(out, progress=progress)
    with tempfile.TemporaryDirectory(prefix="dual16-") as temporary:
        state = Path(temporary if out is None else out) / STATE_FOLDER
        with Client.local(state, workers=workers) as local:
            job = local.submit(model, data, settings=settings, eval_data=eval_data, max_batches=max_batches)
            result = job.result(out, progress=progress)
            job.delete()
            left = local.jobs(1)
        if not left:
            shutil.rmtree(state)
    return result
