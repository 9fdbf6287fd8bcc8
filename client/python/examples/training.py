"""A training loop that watches what quantization would cost: after each epoch the model goes through dual16, and a
training whose outputs the integers would ruin ends with an error.

usage: training.py
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dual16
from dual16.testing import assert_sqnr

WANTED_DB = 35.0


def data(rows: int) -> TensorDataset:
    """Points [rows, 8] and what is to be learned of them [rows, 2]."""
    x = torch.randn(rows, 8)
    return TensorDataset(x, torch.stack([x.square().mean(-1), torch.sin(x[:, 0]) * x[:, 1]], dim=-1))


def main() -> None:
    torch.manual_seed(16)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    training = DataLoader(data(2048), batch_size=128, shuffle=True)
    # Batches of inputs and labels are taken as they are: the labels are beyond the model's one input.
    calibration = DataLoader(data(256), batch_size=64)

    with dual16.Client.local() as client:
        for epoch in range(3):
            model.train()
            for x, y in training:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(x), y)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

            result = dual16.quantize(model, calibration, client=client, progress=False)
            assert model.training, "the export leaves the model as it was"
            (output,) = result.outputs.values()
            print(f"epoch {epoch}: loss {loss.item():.4f}, in integers {output.converted.sqnr_db:.1f} dB")
        assert_sqnr(result, WANTED_DB)


if __name__ == "__main__":
    main()
