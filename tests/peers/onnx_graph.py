"""A transformer from ONNX, in PyTorch: Linears, LayerNorm, Softmax and erf-gelu recognised.

Only what the models of the tests need; anything else is an error that names the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from .decompose import LayerNorm, softmax
from .fake_quant import INT8, fake_quantize_constant
from .linears import RunLinear
from .states import Visit
from .ways import Layer

# ONNX spells gelu as x / sqrt(2), erf, + 1, * 0.5, * x.
GELU = ["Div", "Erf", "Add", "Mul", "Mul"]


@dataclass(frozen=True)
class State:
    """How a step runs."""

    visit: Visit
    linear: RunLinear
    quantized: bool


@dataclass(frozen=True)
class Step:
    inputs: tuple[str, ...]
    output: str
    run: Callable[..., Tensor]
    """Takes the state, then the inputs."""


class OnnxGraph:
    """`layers` and the name of each one's input are for those who measure a Linear alone."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self.constants = {
            i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer
        }
        (self.input,), (self.output,) = ([v.name for v in values] for values in (graph.input, graph.output))
        self.layers: dict[str, Layer] = {}
        self.layer_inputs: dict[str, str] = {}
        self.steps: list[Step] = []
        nodes = list(graph.node)
        while nodes:
            taken = self.add_step(nodes)
            del nodes[:taken]
        self.origins = self.find_origins()

    def forward(self, x: Tensor, visit: Visit, linear: RunLinear, *, quantized: bool) -> Tensor:
        state = State(visit, linear, quantized)
        values = {self.input: visit(self.input, x)}
        for step in self.steps:
            values[step.output] = step.run(state, *(values[name] for name in step.inputs))
        return values[self.output]

    def scale_of_input(self, layer: str) -> str:
        """The tensor whose scale a layer's input has: moves keep the scale."""
        return self.origins.get(self.layer_inputs[layer], self.layer_inputs[layer])

    def find_origins(self) -> dict[str, str]:
        origins: dict[str, str] = {}
        for step in self.steps:
            if step.run.__name__ == "move":
                origins[step.output] = origins.get(step.inputs[0], step.inputs[0])
        return origins

    def add_step(self, nodes: list[onnx.NodeProto]) -> int:
        """Turns the first nodes into one step; how many they were."""
        node = nodes[0]
        operators = [n.op_type for n in nodes[: len(GELU)]]
        if operators[:2] == ["MatMul", "Add"] and node.input[1] in self.constants:
            self.add_linear(node, nodes[1])
            return 2
        if operators == GELU:
            last = nodes[len(GELU) - 1]
            self.add(last, [node.input[0]], lambda s, x: s.visit(last.output[0], F.gelu(x)))
            return len(GELU)
        self.add_single(node)
        return 1

    def add_linear(self, matmul: onnx.NodeProto, add: onnx.NodeProto) -> None:
        bias = next(name for name in add.input if name in self.constants)
        name = bias.removesuffix(".bias")
        weight = self.constants[matmul.input[1]].T.contiguous()
        layer = self.layers[name] = Layer(name, weight, self.constants[bias])
        self.layer_inputs[name] = matmul.input[0]
        self.add(add, [matmul.input[0]], lambda s, x: s.linear(layer, x, s.visit))

    def add_single(self, node: onnx.NodeProto) -> None:
        name = node.output[0]
        attributes: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        fixed = [self.constants[i] for i in node.input if i in self.constants]
        flowing = [i for i in node.input if i not in self.constants]
        match node.op_type:
            case "LayerNormalization":
                weight, bias = fixed
                norm = LayerNorm(name, weight, bias, attributes.get("epsilon", 1e-5))
                self.add(node, flowing, lambda s, x: norm.run(x, s.visit, quantized=s.quantized))
            case "Softmax":
                self.add(node, flowing, lambda s, x: softmax(name, x, s.visit))
            case "Reshape":
                shape = fixed[0].tolist()

                def move(s: State, x: Tensor) -> Tensor:
                    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])

                self.add(node, flowing, move)
            case "Transpose":
                perm = attributes["perm"]

                def move(s: State, x: Tensor) -> Tensor:
                    return x.permute(perm)

                self.add(node, flowing, move)
            case "MatMul" if not fixed:
                # At most one int16 operand before OE 3.2.0, so the second one is int8.
                self.add(
                    node,
                    flowing,
                    lambda s, a, b: s.visit(name, torch.matmul(a, s.visit(f"{name}.1", b, INT8))),
                )
            case "Relu":
                self.add(node, flowing, lambda s, x: s.visit(name, torch.relu(x)))
            case "Add" if not fixed:
                self.add(node, flowing, lambda s, a, b: s.visit(name, a + b))
            case "Mul" if len(fixed) == 1:
                factor, int16 = fixed[0], fake_quantize_constant(fixed[0])
                self.add(node, flowing, lambda s, x: s.visit(name, x * (int16 if s.quantized else factor)))
            case other:
                raise NotImplementedError(f"node {node.name}: operator {other} is not known here")

    def add(self, node: onnx.NodeProto, inputs: list[str], run: Callable[..., Tensor]) -> None:
        self.steps.append(Step(tuple(inputs), node.output[0], run))
