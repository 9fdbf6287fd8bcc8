"""Modules of PyTorch: exported as they are, and captured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dual16
from dual16.testing import sqnr_db

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


class Attentive(torch.nn.Module):  # type: ignore[misc]
    """A Linear, an attention over itself and over a memory, a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(16, 32)
        self.own = torch.nn.MultiheadAttention(32, 4, batch_first=True)
        self.cross = torch.nn.MultiheadAttention(32, 4, batch_first=True, kdim=16, vdim=16)
        self.dropout = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(32, 4)

    def forward(self, x: Any, memory: Any) -> Any:
        h = torch.relu(self.body(x))
        h = h + self.own(h, h, h, need_weights=False)[0]
        h = h + self.cross(h, memory, memory, need_weights=False)[0]
        return self.head(self.dropout(h))


@pytest.fixture
def model() -> Any:
    torch.manual_seed(16)
    return Attentive()


def batches(rows: list[int]) -> list[tuple[Any, Any, Any]]:
    torch.manual_seed(17)
    return [(torch.randn(n, 5, 16), torch.randn(n, 7, 16), torch.zeros(n)) for n in rows]


def test_a_module_is_exported_for_the_lengths_of_its_batches(client: dual16.Client, model: Any) -> None:
    model.own.eval()
    # The last batch of a DataLoader is shorter; what is measured is another length still.
    settings = dual16.Settings(save_outputs=True)
    held_out = batches([6])
    result = dual16.quantize(model, batches([8, 8, 3]), eval_data=held_out, settings=settings, client=client)
    assert model.training and not model.own.training, "the module is left as it was"
    assert {"body", "head"} <= result.layers.keys()

    saved, _ = dual16._safetensors.load(result.path / "outputs.safetensors")
    (name,) = (name for name in saved if "float" in name)
    with torch.no_grad():
        truth = model.eval()(*held_out[0][:2]).numpy()
    assert sqnr_db(truth, saved[name].reshape(truth.shape)) > 100


def test_batches_may_name_what_forward_takes(client: dual16.Client, model: Any) -> None:
    named = [{"memory": memory, "x": x} for x, memory, _ in batches([4, 4])]
    by_name = dual16.quantize(model, named, client=client)
    by_order = dual16.quantize(model, batches([4, 4]), client=client)
    assert by_name.raw["outputs"] == by_order.raw["outputs"]


def test_captured_inputs_are_those_of_every_linear_those_of_attentions_too(client: dual16.Client, model: Any) -> None:
    from dual16.capture import capture

    model.eval()
    data = batches([4, 4])
    with torch.no_grad():
        plain = model(*data[0][:2])
        with capture(model) as captured:
            seen = [model(x, memory) for x, memory, _ in data]
    assert torch.equal(plain, seen[0]) or sqnr_db(plain, seen[0]) > 100
    assert set(captured.layers) == {
        "body", "head", "own.in_proj", "own.out_proj",
        "cross.in_proj.q", "cross.in_proj.k", "cross.in_proj.v", "cross.out_proj",
    }  # fmt: skip
    assert captured.missed == []
    for batch, output in zip(captured.batches, seen, strict=True):
        assert {name: x.shape[-1] for name, x in batch.items()}["cross.in_proj.k"] == 16
        weight, bias = captured.layers["head"]
        assert bias is not None
        assert sqnr_db(output.reshape(-1, 4), batch["head"] @ weight.T + bias) > 100
    # The whole of an attention, from what was captured of it.
    first = captured.batches[0]
    weight, bias = captured.layers["own.out_proj"]
    assert bias is not None
    # Inside it the sequence comes before the batch.
    h = first["own.in_proj"].reshape(5, 4, 32).transpose(0, 1)
    alone = model.own(h, h, h, need_weights=False)[0].detach().transpose(0, 1)
    assert sqnr_db(alone.reshape(-1, 32), first["own.out_proj"] @ weight.T + bias) > 100

    assert torch.nn.functional.linear.__name__ == "linear" and torch.backends.mha.get_fastpath_enabled()
    result = dual16.quantize(captured.layers, captured.batches, client=client)
    assert result.layers.keys() == captured.layers.keys()


def test_what_has_not_run_is_told(model: Any) -> None:
    from dual16.capture import capture

    with capture(model.body) as captured:
        model.body(torch.zeros(2, 16))
    assert captured.missed == [] and list(captured.layers) == ["linear"]
    with capture(model) as captured:
        model.body(torch.zeros(2, 16))
    # A run is one of the module that was named.
    assert captured.batches == [] and "head" in captured.missed


def test_bfloat16_and_integers_go_in_with_their_values(client: dual16.Client) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(10, 8), torch.nn.Linear(8, 4))
    result = dual16.quantize(model, [torch.arange(10).reshape(2, 5) for _ in range(2)], client=client)
    assert result.layers
    from dual16.batches import as_array

    assert np.array_equal(as_array(torch.tensor([1.5, -2.0], dtype=torch.bfloat16)), np.array([1.5, -2.0], np.float32))


def test_tensors_of_the_result_are_those_of_the_file(small: dual16.Result) -> None:
    converted = small.converted()
    tensors = converted.torch()
    assert tensors.keys() == converted.tensors.keys()
    assert all(np.array_equal(tensors[name].numpy(), x) for name, x in converted.tensors.items())


class Tied(torch.nn.Module):  # type: ignore[misc]
    """Two Linears with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.b.weight = self.a.weight

    def forward(self, x: Any) -> Any:
        return self.b(torch.relu(self.a(x)))


def test_a_weight_of_two_layers_is_found_for_both(client: dual16.Client) -> None:
    torch.manual_seed(16)
    converted = dual16.quantize(Tied(), [torch.randn(16, 8) for _ in range(2)], client=client).converted()
    assert "a.weight" in converted.tensors and "b.weight" not in converted.tensors
    assert np.array_equal(converted["a"].weight(), converted["b"].weight())
    assert converted["b"](np.ones((1, 8))).shape == (1, 8)
