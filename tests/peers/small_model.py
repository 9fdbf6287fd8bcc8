"""The article's SmallModel, written out as its script has it."""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from torch import Tensor

from .decompose import LayerNorm
from .linears import RunLinear
from .places import Model
from .states import Visit
from .ways import Layer

LAYER_NORM_EPS = 1e-5


class SmallModel:
    """linear1, layernorm, relu, linear2, linear3; linear2 is the one that int8 hurts."""

    def __init__(self, model: Model) -> None:
        state = load_file(model.folder / "float.safetensors")

        def layer(name: str) -> Layer:
            return Layer(name, state[f"{name}.weight"], state[f"{name}.bias"])

        self.linear1, self.linear2, self.linear3 = map(layer, ("linear1", "linear2", "linear3"))
        self.layernorm = LayerNorm(
            "layernorm", state["layernorm.weight"], state["layernorm.bias"], LAYER_NORM_EPS
        )

    @property
    def linears(self) -> tuple[Layer, ...]:
        return self.linear1, self.linear2, self.linear3

    def forward(self, x: Tensor, visit: Visit, linear: RunLinear, *, quantized: bool) -> Tensor:
        x = visit("x", x)
        x = linear(self.linear1, x, visit)
        x = self.layernorm.run(x, visit, quantized=quantized)
        x = visit("relu", torch.relu(x))
        x = linear(self.linear2, x, visit)
        return linear(self.linear3, x, visit)
