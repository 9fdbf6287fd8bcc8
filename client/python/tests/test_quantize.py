"""From models and data of every form to results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL

import dual16
from dual16 import _safetensors
from dual16.testing import assert_sqnr


def batches() -> list[dict[str, np.ndarray]]:
    return [_safetensors.load(path)[0] for path in sorted((SMALL / "calib").glob("*.safetensors"))]


def test_on_this_machine_in_one_call_and_nothing_is_left_but_the_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = dual16.quantize(SMALL / "model.onnx", SMALL / "calib", out=out, workers=2)
    assert {name: layer.effective for name, layer in result.layers.items()} == {
        "linear1": "a16w8",
        "linear2": "split",
        "linear3": "a16w8",
    }
    assert {path.name for path in out.iterdir()} >= {"result.json", "converted.safetensors", "plan.json"}
    assert not (out / ".dual16").exists() and not list(out.glob("*.part"))


def test_the_form_of_the_batches_changes_nothing(client: dual16.Client, small: dual16.Result) -> None:
    arrays = (batch["x"] for batch in batches())
    labelled = [(batch["x"], np.zeros(3)) for batch in batches()]
    for data in (arrays, labelled, batches(), [[batch["x"]] for batch in batches()]):
        result = dual16.quantize(SMALL / "model.onnx", data, client=client)
        assert result.raw["outputs"] == small.raw["outputs"]


def test_settings_and_held_out_batches_are_those_of_the_command_line(client: dual16.Client) -> None:
    settings = dual16.Settings(linear={"linear2": "mul_sum"}, min_output_sqnr=0)
    result = dual16.quantize(
        SMALL / "model.onnx", SMALL / "calib", eval_data=SMALL / "eval.safetensors", settings=settings, client=client
    )
    # The figure of the README's table.
    assert result.layers["linear2"].effective == "mul_sum"
    assert result.layers["linear2"].converted.sqnr_db == pytest.approx(39.3, abs=0.05)


def test_at_most_so_many_batches_are_taken(client: dual16.Client) -> None:
    job = client.submit(SMALL / "model.onnx", (batch for batch in batches()), max_batches=2)
    stages = [event for event in job.events() if isinstance(event, dual16.Progress) and event.stage == "observe"]
    # A map for each batch, and the reduce.
    assert {stage.tasks for stage in stages} == {3}


def test_a_priority_goes_with_the_job_and_with_what_is_made_of_it(client: dual16.Client) -> None:
    # On this machine the same work is the same job: this is no other test's.
    job = client.submit(SMALL / "model.onnx", SMALL / "calib", max_batches=3, priority="low")
    assert client._wire.get_job(job.name).priority == 1
    job.wait()
    assert client._wire.get_job(job.rescale().name).priority == 1
    dual16.plan(SMALL / "model.onnx", SMALL / "calib", client=client, max_batches=3, priority="high")
    assert client._wire.list_jobs(1).jobs[0].priority == 3
    with pytest.raises(ValueError, match="'urgent'; it must be one of low, normal, high"):
        dual16.analyze(SMALL / "model.onnx", SMALL / "calib", client=client, priority="urgent")  # type: ignore[arg-type]


def test_layers_without_a_graph(client: dual16.Client) -> None:
    random = np.random.default_rng(16)
    weight, bias = random.normal(size=(8, 32)).astype(np.float32), random.normal(size=8).astype(np.float32)
    inputs = [{"fc": random.normal(size=(16, 32)).astype(np.float32)} for _ in range(3)]
    result = dual16.quantize({"fc": (weight, bias)}, inputs, client=client)
    same = dual16.quantize({"fc.weight": weight, "fc.bias": bias}, inputs, client=client)
    assert result.raw["layers"] == same.raw["layers"]
    assert_sqnr(result, 30, layer="fc")


def test_what_is_told_is_typed_and_becomes_tables(client: dual16.Client, small: dual16.Result) -> None:
    job = client.submit(SMALL / "model.onnx", SMALL / "calib")
    measured = {layer.name: layer for layer in job.layers()}
    assert measured["linear2"].effective == "split" and not measured["linear2"].ways["a16w16"].legal
    # The same figures in events and in the file.
    assert measured["linear2"].ways["split"].metrics == small.layers["linear2"].isolated["split"].metrics
    table = small.to_pandas()
    assert list(table.index) == ["linear1", "linear2", "linear3"]
    assert table.loc["linear2", "converted_db"] == small.layers["linear2"].converted.sqnr_db
    assert len(small.ways_to_pandas().query("layer == 'linear2' and legal")) > 4
    assert set(job.partial().to_pandas()["layer"]) == set(small.layers)


def test_an_assertion_names_what_is_below(small: dual16.Result) -> None:
    assert_sqnr(small, 40)
    assert_sqnr(small, 40, output="y", run="validation")
    with pytest.raises(AssertionError, match=r"y has 45\.4 dB; at least 50\.0 dB(.|\n)*linear3 \(a16w8\)"):
        assert_sqnr(small, 50)
    with pytest.raises(ValueError, match="there are y"):
        assert_sqnr(small, 50, output="z")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([], "hold no batch"),
        (np.zeros((4, 256), np.float32), "give a list of one"),
        ({"x": np.zeros((4, 256), np.float32)}, "give a list of one"),
        ([()], "0 arrays, and the model 1 inputs: x"),
        ([np.zeros((4, 256), np.complex64)], "array of complex64"),
        (SMALL / "nowhere", "neither .safetensors nor .npz"),
    ],
)
def test_data_that_are_none_are_refused_before_anything_is_sent(
    client: dual16.Client, data: dual16.Data, error: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        client.submit(SMALL / "model.onnx", data)
