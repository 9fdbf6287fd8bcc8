"""The modules of PyTorch that stand in for layers of the model, and what puts them there.

    from modules import apply
    apply(model, "handoff")            # the folder that this file came in

What is replaced, and with which tensors, is in modules.json; the tensors are in mended.safetensors. Where
horizon_plugin_pytorch is installed, its QuantStub and FloatFunctional are used, so that `prepare` finds every
tensor that has a scale; elsewhere modules compute the same in floats.
"""

import json
import pathlib
import struct

import torch
from torch import nn

try:
    from horizon_plugin_pytorch.nn.quantized import FloatFunctional
    from horizon_plugin_pytorch.quantization import QuantStub
except ImportError:

    class QuantStub(nn.Module):
        """Where a float tensor becomes integers; elsewhere it is the tensor."""

        def __init__(self, scale=None):
            super().__init__()
            self.scale = scale

        def forward(self, x):
            return x

    class FloatFunctional(nn.Module):
        """Operations that have a fake quant of their own."""

        def add(self, a, b):
            return a + b

        def sub(self, a, b):
            return a - b

        def mul(self, a, b):
            return a * b

        def sum(self, x, dim, keepdim=False):
            return x.sum(dim, keepdim)

        def mean(self, x, dim, keepdim=False):
            return x.mean(dim, keepdim)

        def matmul(self, a, b):
            return torch.matmul(a, b)


class BroadcastMulSumLinear(nn.Module):
    """Mul, ReduceSum, Add: a Linear with int16 on both sides for every toolchain. Weight and bias are
    activations, each behind a QuantStub."""

    def __init__(self, weight, bias=None):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.weight_quant = QuantStub()
        self.bias_quant = None if bias is None else QuantStub()
        self.mul = FloatFunctional()
        self.sum = FloatFunctional()
        self.add = FloatFunctional()

    def forward(self, x):
        weight = self.weight_quant(self.weight.unsqueeze(0))
        products = self.mul.mul(x.unsqueeze(-2), weight)
        y = self.sum.sum(products, dim=-1)
        return y if self.bias is None else self.add.add(y, self.bias_quant(self.bias))


class SplitLinear(nn.Module):
    """An int16 weight as two int8 planes: two Linears and an Add. The planes add up to the weight."""

    def __init__(self, high, low, bias=None):
        super().__init__()
        self.hi = _linear(high, bias)
        self.lo = _linear(low, None)
        self.add = FloatFunctional()

    def forward(self, x):
        return self.add.add(self.hi(x), self.lo(x))


class LowRankLinear(nn.Module):
    """A Linear and a narrow branch of two that is added."""

    def __init__(self, weight, down, up, bias=None):
        super().__init__()
        self.main = _linear(weight, bias)
        self.lowrank_down = _linear(down, None)
        self.lowrank_up = _linear(up, None)
        self.add = FloatFunctional()

    def forward(self, x):
        return self.add.add(self.main(x), self.lowrank_up(self.lowrank_down(x)))


class MendedLayerNorm(nn.Module):
    """A LayerNorm whose parts are written out: how its squares are summed, and when its mean is taken away."""

    def __init__(self, norm, late_mean=False):
        super().__init__()
        self.dims = tuple(range(-len(norm.normalized_shape), 0))
        self.eps, self.late_mean = norm.eps, late_mean
        self.weight, self.bias = norm.weight, getattr(norm, "bias", None)
        self.weight_quant, self.bias_quant = QuantStub(), QuantStub()
        for name in ("input_mean", "sub", "mul", "var_mean", "out_mul", "weight_mul", "bias_add"):
            setattr(self, name, FloatFunctional())
        if late_mean:
            self.mean_mul, self.late_sub = FloatFunctional(), FloatFunctional()

    def mean_of_squares(self, x):
        return self.var_mean.mean(self.mul.mul(x, x), self.dims, True)

    def forward(self, x):
        mean = self.input_mean.mean(x, self.dims, True)
        centred = self.sub.sub(x, mean)
        factor = torch.rsqrt(self.mean_of_squares(centred) + self.eps)
        if self.late_mean:
            y = self.late_sub.sub(self.out_mul.mul(x, factor), self.mean_mul.mul(mean, factor))
        else:
            y = self.out_mul.mul(centred, factor)
        if self.weight is not None:
            y = self.weight_mul.mul(y, self.weight_quant(self.weight))
        return y if self.bias is None else self.bias_add.add(y, self.bias_quant(self.bias))


class TwoRangeLayerNorm(MendedLayerNorm):
    """Squares in two ranges, so that small values keep a scale of their own beside an outlier:
    x² = lo² + (x - lo) · (x + lo) with lo = clip(x, -T, T), exactly."""

    def __init__(self, norm, threshold, late_mean=False):
        super().__init__(norm, late_mean)
        self.threshold = threshold
        for name in ("lo_mul", "beyond", "both", "hi_mul", "lo_sum", "hi_sum", "total"):
            setattr(self, name, FloatFunctional())

    def mean_of_squares(self, x):
        lo = torch.clamp(x, -self.threshold, self.threshold)
        near = self.lo_sum.mean(self.lo_mul.mul(lo, lo), self.dims, True)
        beyond, both = self.beyond.sub(x, lo), self.both.add(x, lo)
        far = self.hi_sum.mean(self.hi_mul.mul(beyond, both), self.dims, True)
        return self.total.add(near, far)


class DotLayerNorm(MendedLayerNorm):
    """The sum of squares as a product of a row with itself, in the exact accumulator of a matrix product.
    With a step the second operand is two int8 planes, for toolchains whose products take one int16 operand:
    x · x = x · hi + x · lo, hi being requantized to int8 and lo what is left."""

    def __init__(self, norm, late_mean=False, step=None):
        super().__init__(norm, late_mean)
        if len(self.dims) != 1:
            raise ValueError("a LayerNorm over several axes has no row; reshape its input to one")
        self.hi = None if step is None else QuantStub(step)
        for name in ("matmul",) if step is None else ("lo", "hi_matmul", "lo_matmul", "add"):
            setattr(self, name, FloatFunctional())

    def mean_of_squares(self, x):
        row, length = x.unsqueeze(-2), x.shape[-1]
        if self.hi is None:
            return self.matmul.matmul(row, x.unsqueeze(-1)).squeeze(-1) / length
        hi = self.hi(x)
        lo = self.lo.sub(x, hi)
        high = self.hi_matmul.matmul(row, hi.unsqueeze(-1)).squeeze(-1) / length
        low = self.lo_matmul.matmul(row, lo.unsqueeze(-1)).squeeze(-1) / length
        return self.add.add(high, low)


def apply(model, folder):
    """Swaps the modules that modules.json names, loads their tensors and those parameters of others that
    took something in. Returns the names of what was replaced.

    Raises KeyError where the model has no module or parameter of a name, ValueError where a module is not
    what the plan was made of or its owner never calls it, before anything is changed."""
    folder = pathlib.Path(folder)
    plan = json.loads((folder / "modules.json").read_text())
    tensors = Tensors(folder / "mended.safetensors")
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    swaps = []
    for entry in plan["modules"]:
        name = entry["module"]
        if name not in modules:
            raise KeyError(f"the model has no module '{name}'; modules.json was made of another")
        owner = modules[name.rpartition(".")[0]]
        if isinstance(owner, nn.MultiheadAttention) and entry["kind"] != "Linear":
            raise ValueError(
                f"module '{name}' is inside an nn.MultiheadAttention, which reads its weight and never calls it, so "
                f"that no {entry['kind']} can stand in; write that attention with nn.Linear for its projections"
            )
        swaps.append((name, _replacement(modules[name], entry, tensors)))
    loads = []
    for name, stored in plan["parameters"].items():
        if name not in parameters:
            raise KeyError(f"the model has no parameter '{name}'; modules.json was made of another")
        loads.append((parameters[name], tensors.read(stored)))
        if loads[-1][0].shape != loads[-1][1].shape:
            raise ValueError(f"parameter '{name}' has shape {tuple(loads[-1][0].shape)}, not that of the plan")
    with torch.no_grad():
        for parameter, value in loads:
            parameter.copy_(value)
    for name, replacement in swaps:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, replacement.train(modules[name].training))
    return [name for name, _ in swaps]


def _replacement(module, entry, tensors):
    kind, name = entry["kind"], entry["module"]
    if kind.endswith("Norm"):
        if not hasattr(module, "normalized_shape"):
            raise ValueError(f"module '{name}' is no LayerNorm")
        late = entry["late_mean"]
        if kind == "TwoRangeLayerNorm":
            return TwoRangeLayerNorm(module, entry["threshold"], late)
        if kind == "DotLayerNorm":
            return DotLayerNorm(module, late, entry.get("step"))
        return MendedLayerNorm(module, late)
    shape = (entry["outputs"], entry["inputs"])
    if getattr(module, "weight", None) is None or tuple(module.weight.shape) != shape:
        raise ValueError(f"module '{name}' is no Linear of {shape[1]} inputs and {shape[0]} outputs")
    stored = {part: tensors.read(of["name"], of["transposed"]) for part, of in entry["tensors"].items()}
    weight = stored.get("weight", module.weight.detach())
    bias = stored.get("bias", None if module.bias is None else module.bias.detach())
    if kind == "BroadcastMulSumLinear":
        return BroadcastMulSumLinear(weight, bias)
    if kind == "SplitLinear":
        return SplitLinear(stored["weight_hi"], stored["weight_lo"], bias)
    if kind == "LowRankLinear":
        return LowRankLinear(weight, stored["lowrank_down"], stored["lowrank_up"], bias)
    return _linear(weight, bias)


def _linear(weight, bias):
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=bias is not None)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    return linear


class Tensors:
    """A safetensors file of floats, read one tensor at a time."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            self.header = json.loads(file.read(length))
        self.start = 8 + length

    def read(self, name, transposed=False):
        entry = self.header[name]
        start, end = entry["data_offsets"]
        with open(self.path, "rb") as file:
            file.seek(self.start + start)
            data = bytearray(file.read(end - start))
        tensor = torch.frombuffer(data, dtype=torch.float32).reshape(entry["shape"])
        return tensor.t().contiguous() if transposed else tensor
