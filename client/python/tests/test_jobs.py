"""Jobs on a server: errors with its details, cancelled and resumed, cut connections, and for asyncio."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL

import dual16
from dual16 import aio, errors


def long_job(client: dual16.Client) -> dual16.Job[dual16.Result]:
    """One that takes its time, and tells of layers before its end."""
    random = np.random.default_rng(16)
    layers = {f"fc{i}": random.normal(size=(512, 1024)).astype(np.float32) for i in range(12)}
    inputs = [{name: random.normal(size=(256, 1024)).astype(np.float32) for name in layers} for _ in range(2)]
    return client.submit(layers, inputs, settings=dual16.Settings(linear={"*": "auto"}))


def test_what_a_cancelled_job_found_is_kept_and_it_goes_on(client: dual16.Client) -> None:
    job = long_job(client)
    first = next(job.layers())
    partial = job.cancel()
    assert first.name in partial.layers
    assert len(partial.layers) < 12, "the job was done before it was cancelled"
    assert job.wait() is dual16.State.CANCELLED
    with pytest.raises(errors.JobCancelled):
        job.result()
    job.retry()
    assert set(job.result().layers) >= partial.layers.keys()
    with pytest.raises(errors.Conflict) as refused:
        job.retry()
    assert refused.value.reason == "JOB_NOT_RETRYABLE"
    job.delete()
    with pytest.raises(errors.NotFound) as gone:
        job.state()
    assert gone.value.reason == "JOB_NOT_FOUND"


def test_a_failed_job_says_what_is_wrong(client: dual16.Client) -> None:
    settings = dual16.Settings(linear={"liner2": "split"})
    with pytest.raises(errors.JobFailed, match="linear2") as failed:
        dual16.quantize(SMALL / "model.onnx", SMALL / "calib", settings=settings, client=client)
    assert failed.value.code == "UNKNOWN_NAME"
    assert client.job(failed.value.job).state() is dual16.State.FAILED


def test_a_refused_request_names_its_fields(client: dual16.Client) -> None:
    with pytest.raises(errors.InvalidRequest, match="display_name: ") as refused:
        client.submit(SMALL / "model.onnx", SMALL / "calib", name="two\nlines")
    assert refused.value.code == "INVALID_ARGUMENT"
    assert [one.field for one in refused.value.violations] == ["display_name"]
    with pytest.raises(errors.LimitExceeded) as refused_too:
        client.submit(SMALL / "model.onnx", SMALL / "calib", name="x" * 100_000)
    assert int(refused_too.value.metadata["max"]) < 100_000


def test_without_its_token_nobody_is_let_in(client: dual16.Client) -> None:
    for token, reason in [(None, "CREDENTIALS_MISSING"), ("wrong", "TOKEN_UNKNOWN")]:
        with dual16.Client(client.url, token) as stranger, pytest.raises(errors.NotAllowed) as refused:
            stranger.jobs()
        assert refused.value.reason == reason


def test_a_token_does_not_cross_the_network_in_the_clear() -> None:
    with pytest.raises(ValueError, match="use https://"):
        dual16.Client("http://quant.example:7016", "secret")
    with pytest.raises(ValueError, match="no URL"):
        dual16.Client("quant.example:7016")


def test_a_server_that_is_not_there_is_given_up_after_the_time_that_was_said() -> None:
    with dual16.Client("http://127.0.0.1:1", give_up_after=0.5) as client, pytest.raises(errors.Unreachable):
        client.jobs()


def test_the_same_local_job_goes_on_after_its_process_was_killed(tmp_path: Path) -> None:
    """The child server ends with whoever started it, and leaves what is done to the next call."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_jobs, dual16\n"
        "client = dual16.Client.local(sys.argv[1], workers=1)\n"
        "job = test_jobs.long_job(client); next(job.layers()); print(job.name, flush=True)\n"
        "import time; time.sleep(600)"
    )
    here = str(Path(__file__).parent)
    own = os.environ | {"PYTHONPATH": str(Path(dual16.__file__).parents[1])}
    command = [sys.executable, "-c", script, str(tmp_path), here]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own)
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    # Its server holds the state until it has ended, too.
    for _ in range(100):
        try:
            client = dual16.Client.local(tmp_path, workers=2)
            break
        except errors.LocalError as error:
            assert "in use" in str(error) or "uses it" in str(error), error
            time.sleep(0.2)
    with client:
        job = long_job(client)
        assert job.name == name
        assert len(job.result().layers) == 12


def test_a_program_that_cannot_serve_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(errors.LocalError, match=str(occupied)):
        dual16.Client.local(occupied)
    for program, problem in [("/bin/true", "/bin/true ended with 0"), ("/nowhere", "cannot start /nowhere")]:
        monkeypatch.setenv("DUAL16_PROGRAM", program)
        with pytest.raises(errors.LocalError, match=problem):
            dual16.Client.local(tmp_path)


def test_asyncio_has_the_same(client: dual16.Client) -> None:
    async def both() -> None:
        async with await aio.Client.local(workers=2) as mine:
            jobs = [
                await mine.submit(SMALL / "model.onnx", SMALL / "calib", settings=settings)
                for settings in (dual16.Settings(), dual16.Settings(template="a8w8", min_output_sqnr=0))
            ]
            results = await asyncio.gather(*(job.result() for job in jobs))
            assert [result.layers["linear1"].effective for result in results] == ["a16w8", "a8w8"]
            names = [layer.name async for layer in jobs[0].layers()]
            assert sorted(names) == ["linear1", "linear2", "linear3"]
            again = await aio.quantize(SMALL / "model.onnx", SMALL / "calib", client=mine)
            assert again.raw == results[0].raw
            assert {job.name for job in await mine.jobs()} >= {job.name for job in jobs}

    asyncio.run(both())


def test_a_cancelled_wait_ends_and_leaves_the_job(client: dual16.Client) -> None:
    async def wait() -> None:
        job = aio.Job(long_job(client))
        waiting = asyncio.create_task(job.wait())
        # It is under way, and far from its end.
        await anext(job.layers())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not (await job.state()).ended
        await job.cancel()

    asyncio.run(wait())
