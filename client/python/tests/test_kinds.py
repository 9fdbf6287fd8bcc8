"""What a job may be beside a quantization: a plan, an analysis, and scales once more; on a server, on this machine
alone, and for asyncio."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from conftest import SMALL

import dual16
from dual16 import aio, errors, local
from dual16.events import SensitivityMeasured

MODEL, CALIB = SMALL / "model.onnx", SMALL / "calib"


@pytest.fixture(scope="module")
def split(client: dual16.Client) -> dual16.Job[dual16.Result]:
    """A job that observed everything."""
    job = client.submit(MODEL, CALIB, settings=dual16.Settings(linear={"*": "split"}, keep_statistics=True))
    assert job.wait() is dual16.State.SUCCEEDED
    return job


def test_a_plan_has_layers_ways_costs_and_names(client: dual16.Client, small: dual16.Result, tmp_path: Path) -> None:
    settings = dual16.Settings(linear={"linear2": "auto", "linear3": "a16w16"})
    with pytest.raises(errors.JobFailed, match="before OE 3.2.0") as illegal:
        dual16.plan(MODEL, CALIB, settings=settings, client=client)
    assert illegal.value.code == "ILLEGAL_WAY"

    plan = dual16.plan(MODEL, CALIB, client=client, out=tmp_path)
    assert list(plan.layers) == list(small.layers) == ["linear1", "linear2", "linear3"]
    linear2 = plan.layers["linear2"]
    assert linear2.shape == (60, 256) and linear2.macs > 0 and linear2.reason == ""
    assert linear2.way == linear2.requested == small.layers["linear2"].requested
    assert "split" in linear2.legal and "OE 3.2.0" in linear2.illegal["a16w16"]
    assert 0 < linear2.estimate.latency_us < plan.estimate.latency_us
    (named,) = (one for one in plan.names if one.name == "linear2")
    assert named.op == "Linear" and named.nodes and named.outputs
    assert plan.tasks["observe"] > 1 and plan.bytes["model"] == MODEL.stat().st_size
    assert list(plan.to_pandas().index) == list(plan.layers)
    assert plan.names_to_pandas().loc["linear2", "op"] == "Linear"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    with pytest.raises(ValueError, match="dual16 plan 1"):
        dual16.Plan(small.path)


def test_an_analysis_has_the_rows_that_its_job_told(client: dual16.Client, tmp_path: Path) -> None:
    job = client.submit_analysis(MODEL, CALIB, metric="l1", name="by L1")
    found = job.result(tmp_path)
    worst = found.rows[0]
    assert (worst.op_name, worst.sensitive_type, worst.quant_dtype) == ("linear2", "weight", "int8")
    l1 = [row.outputs["y"].l1 for row in found.rows]
    assert all(figure is not None for figure in l1) and l1 == sorted(l1, key=lambda figure: -(figure or 0))
    assert worst.outputs["y"].sqnr is not None and worst.estimate_db == pytest.approx(worst.outputs["y"].sqnr, abs=3)
    assert sum(row.macs_share for row in found.rows if row.sensitive_type == "weight") == pytest.approx(1)
    assert found.only_estimated == 0
    assert found.together[0].outputs["y"].sqnr == pytest.approx(worst.outputs["y"].sqnr)
    counts = [one.rows for one in found.together]
    assert counts[0] == 1 and counts == sorted(set(counts))
    assert len(found.batches) >= len(list(CALIB.iterdir()))

    told = [event for event in job.events() if isinstance(event, SensitivityMeasured)]
    by_name = {(row.op_name, row.sensitive_type): row for row in told}
    assert by_name == {(row.op_name, row.sensitive_type): row for row in found.rows}
    assert job.partial().rows == told
    again = client.job(job.id).fetch()
    assert isinstance(again, dual16.Sensitivity) and again.raw == found.raw

    table = found.to_pandas()
    assert list(table["l1"]) == l1 and set(table["output"]) == {"y"}


def test_an_analysis_of_some_rows_and_outputs(client: dual16.Client) -> None:
    found = dual16.analyze(MODEL, CALIB, exact=2, outputs=["y"], client=client)
    assert len(found.rows) == 2 and found.only_estimated > 0
    with pytest.raises(errors.JobFailed, match="logits") as failed:
        dual16.analyze(MODEL, CALIB, outputs=["logits"], client=client)
    assert failed.value.code == "UNKNOWN_NAME"


def test_a_job_is_rescaled_as_the_command_line_does(
    client: dual16.Client, split: dual16.Job[dual16.Result], tmp_path: Path
) -> None:
    changes = dual16.Changes(observer="percentile", percentile=99.0, power_of_two=True, linear={"linear3": "a16w8"})
    rescaled = dual16.rescale(split, changes, out=tmp_path / "own")
    ways = {name: layer.effective for name, layer in rescaled.layers.items()}
    assert ways == {"linear1": "split", "linear2": "split", "linear3": "a16w8"}
    assert rescaled.outputs["y"].validation.sqnr_db is None
    before, after = split.fetch().plan(), rescaled.plan()
    assert after["request"]["observer"] == "percentile:99" and after["request"]["power_of_two"]
    assert after["tensors"]["x"]["scale"] != before["tensors"]["x"]["scale"]

    token = client._local.token if client._local else ""
    command = [str(local.program()), "rescale", split.id, "--server", client.url, "--out", str(tmp_path / "its")]
    command += "--observer percentile --percentile 99 --power-of-two true --linear linear3=a16w8".split()
    subprocess.run(command, env=os.environ | {"DUAL16_TOKEN": token}, check=True, capture_output=True, timeout=300)
    for name in ("plan.json", "converted.safetensors", "handoff/mended.onnx"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "its" / name).read_bytes(), name


def test_what_is_not_changed_is_as_the_job_had_it(split: dual16.Job[dual16.Result]) -> None:
    assert dual16.rescale(split).plan()["tensors"] == split.fetch().plan()["tensors"]


def test_only_what_observed_is_rescaled(client: dual16.Client) -> None:
    plan = client.submit_plan(MODEL, CALIB)
    plan.wait()
    with pytest.raises(errors.JobError, match="only what quantize made"):
        dual16.rescale(plan)
    failed = client.submit(MODEL, CALIB, settings=dual16.Settings(linear={"nothing": "split"}))
    failed.wait()
    with pytest.raises(errors.JobFailed, match="nothing"):
        failed.rescale()


def test_all_of_it_on_this_machine_alone(client: dual16.Client, tmp_path: Path) -> None:
    plan = dual16.plan(MODEL, CALIB, workers=1)
    assert plan.raw == dual16.plan(MODEL, CALIB, client=client).raw
    found = dual16.analyze(MODEL, CALIB, exact=1, out=tmp_path, workers=1)
    assert found.rows[0].op_name == "linear2"
    assert (tmp_path / "sensitivity.csv").exists() and not (tmp_path / ".dual16").exists()


def test_asyncio_has_the_same_kinds(split: dual16.Job[dual16.Result]) -> None:
    async def all_of_them() -> None:
        async with await aio.Client.local(workers=2) as mine:
            plan, found = await asyncio.gather(
                aio.plan(MODEL, CALIB, client=mine), aio.analyze(MODEL, CALIB, exact=1, client=mine)
            )
            assert "linear2" in plan.layers and found.rows[0].op_name == "linear2"
            job = await mine.submit(MODEL, CALIB)
            with pytest.raises(errors.JobError, match="not done yet"):
                await job.rescale()
            await job.wait()
            rescaled = await aio.rescale(job, dual16.Changes(power_of_two=True))
            assert rescaled.plan()["request"]["power_of_two"]
            analysis = await mine.submit_analysis(MODEL, CALIB, exact=1)
            rows = [event async for event in analysis.events() if isinstance(event, SensitivityMeasured)]
            assert [row.op_name for row in rows] == ["linear2"]
            assert (await analysis.result()).rows == rows
            assert isinstance(await (await mine.job(job.id)).fetch(), dual16.Result)

    asyncio.run(all_of_them())
