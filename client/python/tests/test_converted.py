"""The integers of every way compute what the job measured."""

from __future__ import annotations

import numpy as np
import pytest

import dual16
from dual16 import _integers
from dual16.testing import sqnr_db

WAYS = ["a8w8", "a16w8", "a8w16", "mul_sum", "split", "a16w16", "a16w8+gptq", "a16w8+gptq+lowrank=4", "a8w16+clip+bc"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("high_precision", [False, True])
def test_a_layer_in_integers_has_the_error_of_the_report(client: dual16.Client, way: str, high_precision: bool) -> None:
    if high_precision and (way in ("mul_sum", "split", "a16w16") or "lowrank" in way):
        pytest.skip("this way ends in an int16 operation")
    random = np.random.default_rng(16)
    weight = random.normal(size=(24, 64)).astype(np.float32)
    weight[:, 3] *= 20
    bias = random.normal(size=24).astype(np.float32)
    inputs = [random.normal(size=(2, 32, 64)).astype(np.float32) for _ in range(4)]
    settings = dual16.Settings(
        linear={"fc": way}, toolchain="oe-3.2", min_output_sqnr=0, high_precision=["fc"] if high_precision else []
    )
    result = dual16.quantize({"fc": (weight, bias)}, [{"fc": x} for x in inputs], settings=settings, client=client)
    reported = result.layers["fc"].isolated[result.layers["fc"].effective].metrics

    layer = result.converted()["fc"]
    assert (layer.output_dtype is None) == high_precision
    stacked = np.stack(inputs)
    y = layer(stacked)
    truth = stacked.astype(np.float64) @ weight.astype(np.float64).T + bias
    assert y.shape == (4, 2, 32, 24) and y.dtype == np.float32
    assert reported.sqnr_db is not None
    assert sqnr_db(truth, y) == pytest.approx(reported.sqnr_db, abs=1e-3)
    assert float(np.abs(truth - y).max()) == pytest.approx(reported.atol, rel=1e-3)
    # What the integers of weight and bias stand for, from which a fake-quantized layer is built.
    values = layer.bias()
    assert values is not None
    assert sqnr_db(truth, layer.quantize(stacked) * layer.scale("input") @ layer.weight().T + values) > 20


def test_the_multiplier_of_the_public_record() -> None:
    assert _integers.multiplier(0.492987) == (32308, 16)
    assert _integers.multiplier(1.0) == (16384, 14)
    assert _integers.multiplier(1e9) == (32767, 1)
    assert _integers.multiplier(2.0**-60) == (0, 1)


def test_accumulators_beyond_what_a_product_of_int64_holds_are_exact() -> None:
    acc = np.array([[(1 << 50) + 1, -(1 << 50)]])
    m, k = _integers.multiplier(0.3)
    assert _integers.rescale(acc, [0.3]).tolist() == [[(int(a) * m + (1 << (k - 1))) >> k for a in acc[0]]]


def test_a_file_that_is_not_a_jobs_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("other") / "converted.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="not a safetensors file"):
        dual16.load_converted(path)
    path.write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    with pytest.raises(ValueError, match="no plan in its metadata"):
        dual16.load_converted(path.parent)
