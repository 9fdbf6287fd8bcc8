"""Weights in narrow types: cast, or dequantized by tensor, by axis, by blocks."""

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ..draft import FLOAT
from .registry import family

FLOATS = {
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    TensorProto.DOUBLE: np.float64,
}
EIGHT_BIT_FLOATS = [
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    ml_dtypes.float8_e4m3fnuz,
    ml_dtypes.float8_e5m2fnuz,
]
INTEGERS = {ml_dtypes.int4: (-8, 7), ml_dtypes.uint4: (0, 15), np.int8: (-128, 127), np.uint8: (0, 255)}


def multiplied(d, weight, k):
    d.output(d.node("MatMul", [d.input([d.some_dim(2), k]), weight]))


@family
def cast_weight(d):
    k, n = d.ints(2, 1, 6)
    kind = d.pick([*FLOATS.values(), *EIGHT_BIT_FLOATS])
    d.opset = 19
    multiplied(d, d.node("Cast", [d.constant(d.floats([k, n]).astype(kind))], to=FLOAT), k)


def quantized(d, sizes, kind):
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return d.rng.integers(low, high + 1, sizes).astype(np.int32).astype(kind)
    return d.floats(sizes, 2.0).astype(kind)


def positive(d, sizes):
    return (np.abs(d.floats(sizes)) + 0.02).astype(np.float32) * np.float32(0.1)


@family
def dequantized_weight(d):
    d.opset = d.pick([21, 21, 13])
    k, n = 2 * d.int(1, 3), 2 * d.int(1, 3)
    kinds = [*INTEGERS, *EIGHT_BIT_FLOATS] if d.opset == 21 else [np.int8, np.uint8]
    kind = d.pick(kinds)
    weight = d.constant(quantized(d, [k, n], kind))
    form = d.pick(["tensor", "axis", "blocks"]) if d.opset == 21 else d.pick(["tensor", "axis"])
    axis, block = d.pick([0, 1, -1, -2]), d.pick([1, 2]) if form == "blocks" else None
    shape = {"tensor": [], "axis": [[k, n][axis]], "blocks": [k, n]}[form]
    if form == "blocks":
        shape[axis] //= block
    inputs = [weight, d.constant(positive(d, shape))]
    if d.chance() and kind in INTEGERS:
        inputs.append(d.constant(quantized(d, shape, kind)))
    axis = None if form == "tensor" or axis == 1 and d.chance() else axis
    multiplied(d, d.node("DequantizeLinear", inputs, axis=axis, block_size=block), k)


@family
def dequantized_bias(d):
    k, n = d.ints(2, 1, 4)
    bias = d.constant(np.asarray(d.rng.integers(-1000, 1000, [n]), np.int32))
    bias = d.node("DequantizeLinear", [bias, d.constant(np.float32(0.001))])
    d.output(d.node("Gemm", [d.input([3, k]), d.constant(d.floats([k, n])), bias]))


@family
def quantized_and_back(d):
    kind = d.pick([np.int8, np.uint8])
    d.opset = d.pick([13, 19, 21])
    scale, zero = d.constant(np.float32(0.07)), d.constant(kind(d.int(0, 20)))
    x = d.input([d.some_dim(2), 5], lambda s: d.floats(s, 6.0))
    y = d.node("QuantizeLinear", [x, scale, zero])
    d.output(d.node("DequantizeLinear", [y, scale, zero]))
    d.output(y, kind=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))


@family
def quantized_dynamically(d):
    made = d.node("DynamicQuantizeLinear", [d.input([d.some_dim(3), 4])], 3)
    d.output(made[0], made[2], kind=TensorProto.UINT8)
    d.output(made[1])


@family
def half_precision(d):
    """A graph in f16 or f64 between two casts, as mixed precision leaves it."""
    kind = d.pick([TensorProto.FLOAT16, TensorProto.DOUBLE])
    k, n = d.ints(2, 1, 5)
    x = d.node("Cast", [d.input([d.some_dim(2), k])], to=kind)
    y = d.node("MatMul", [x, d.constant(d.floats([k, n]).astype(FLOATS[kind]))])
    y = d.node("Add", [y, d.constant(d.floats([n]).astype(FLOATS[kind]))])
    d.output(d.node("Cast", [y], to=FLOAT))


@family
def double_throughout(d):
    make = lambda sizes: d.rng.standard_normal(sizes)
    x = d.input([d.some_dim(2), 4], make, TensorProto.DOUBLE)
    y = d.node("Gemm", [x, d.constant(make([4, 3])), d.constant(make([3]))])
    d.output(d.node(d.pick(["Relu", "Softmax", "Neg"]), [y]), kind=TensorProto.DOUBLE)


@family
def constant_of_lists(d):
    d.opset = 13
    f = d.node("Constant", [], value_floats=[0.5, -1.0, 2.0])
    i = d.node("Constant", [], value_ints=[-1, 3])
    one = d.node("Constant", [], value_float=0.25)
    x = d.node("Reshape", [d.input([d.some_dim(2), 3]), i])
    d.output(d.node("Mul", [d.node("Add", [x, f]), one]))


@family
def stored_in_fields(d):
    """Weights in the typed fields of a tensor, where exporters write raw bytes."""
    k, n = d.ints(2, 1, 4)
    kind = d.pick([TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
    d.initializers.append(helper.make_tensor("weight", kind, [k, n], d.floats([k * n]).tolist()))
    weight = "weight" if kind == FLOAT else d.node("Cast", ["weight"], to=FLOAT)
    multiplied(d, weight, k)


@family
def computed_weight(d):
    """A weight that other constants make: its norm and its direction."""
    k, n = d.ints(2, 2, 5)
    v = d.constant(d.floats([n, k]))
    norm = d.node("ReduceL2", [v], axes=[1], keepdims=1)
    d.opset = 17
    g = d.constant(d.floats([n, 1]))
    weight = d.node("Mul", [v, d.node("Div", [g, norm])])
    multiplied(d, d.node("Transpose", [weight], perm=[1, 0]), k)


@family
def default_input(d):
    """An initializer that is a graph input too, as older exporters list every weight."""
    k, n = d.ints(2, 1, 4)
    d.initializers.append(numpy_helper.from_array(d.floats([k, n]), "listed"))
    multiplied(d, "listed", k)
    d.inputs.append(helper.make_tensor_value_info("listed", FLOAT, [k, n]))
