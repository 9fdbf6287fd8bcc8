"""Functions of one element and of two, in the types that float models use."""

import numpy as np
from onnx import TensorProto

from ..draft import BOOL, FLOAT, INT32, INT64
from .registry import family, family_of_each

PLAIN = [
    "Abs",
    "Ceil",
    "Cos",
    "Erf",
    "Exp",
    "Floor",
    "Identity",
    "Neg",
    "Relu",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Cosh",
    "Softplus",
    "Softsign",
    "Tan",
    "Tanh",
    "Atan",
    "Asinh",
    "HardSwish",
    "Mish",
]
WITH_ALPHA = ["LeakyRelu", "Elu", "Celu", "ThresholdedRelu"]


def shape(d):
    return [d.some_dim(d.int(1, 5)) for _ in range(d.int(0, 4))]


def halves(d, sizes):
    """Values with many zeros and many at .5."""
    return (np.round(d.floats(sizes, 4.0)) / 2).astype(np.float32)


@family_of_each(PLAIN)
def unary(d, op):
    d.opset = d.pick([18, 20, 21])
    x = d.input(shape(d), lambda sizes: halves(d, sizes) if d.chance() else d.floats(sizes, 3.0))
    d.output(d.node(op, [x]))


@family_of_each(["Log", "Sqrt", "Reciprocal"])
def unary_of_positive(d, op):
    d.output(d.node(op, [d.input(shape(d), lambda sizes: np.abs(d.floats(sizes)) + np.float32(0.05))]))


@family_of_each(["Acos", "Asin", "Atanh", "Acosh"])
def unary_of_a_range(d, op):
    at = np.float32(2.1 if op == "Acosh" else 0.0)
    d.output(d.node(op, [d.input(shape(d), lambda sizes: at + np.tanh(d.floats(sizes)).astype(np.float32))]))


@family_of_each([*WITH_ALPHA, "Selu", "HardSigmoid", "Shrink", "Gelu"])
def activation(d, op):
    x = d.input(shape(d), lambda sizes: d.floats(sizes, 3.0))
    attributes = {}
    if op in WITH_ALPHA:
        attributes["alpha"] = d.pick([None, 0.1, 0.5, 1.7])
    elif op == "Selu":
        attributes.update(alpha=d.pick([None, 1.2]), gamma=d.pick([None, 0.7]))
    elif op == "HardSigmoid":
        attributes.update(alpha=d.pick([None, 0.3]), beta=d.pick([None, 0.1]))
    elif op == "Shrink":
        attributes.update(bias=d.pick([None, 0.4]), lambd=d.pick([None, 1.0]))
    else:
        d.opset = 20
        attributes["approximate"] = d.pick([None, "none", "tanh"])
    d.output(d.node(op, [x], **attributes))


@family
def prelu(d):
    c = d.int(1, 4)
    slope = d.pick([[c, 1, 1], [1], [c, 2, 3], []])
    d.output(d.node("PRelu", [d.input([d.some_dim(2), c, 2, 3]), d.operand(d.floats(slope))]))


def two(d, make, kind):
    """Two operands that broadcast; the second known or given."""
    sizes = d.ints(d.int(1, 3), 1, 4)
    other = [size if d.chance(0.6) else 1 for size in sizes[d.int(0, len(sizes) - 1) :]]
    pair = [
        d.input(sizes, make, kind),
        d.operand(make(other)) if d.chance(0.7) else d.input(other, make, kind),
    ]
    return pair if d.chance(0.7) else pair[::-1]


@family
def arithmetic(d):
    op = d.pick(["Add", "Sub", "Mul", "Div"])
    d.output(d.node(op, two(d, lambda s: (np.abs(d.floats(s)) + 0.1).astype(np.float32), FLOAT)))


@family
def integer_arithmetic(d):
    kind, dtype = d.pick([(INT64, np.int64), (INT32, np.int32)])

    def make(sizes):
        values = d.rng.integers(1, 9, sizes) * d.rng.choice([-1, 1], sizes)
        return np.asarray(values, dtype)

    op = d.pick(["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min"])
    d.output(d.node(op, two(d, make, kind)), kind=kind)


@family
def large_integers(d):
    values = lambda sizes: np.asarray(d.rng.integers(-(2**40), 2**40, sizes), np.int64)
    x = d.input([d.int(1, 4)], values, INT64)
    y = d.node(d.pick(["Add", "Sub", "Mul", "Div"]), [x, d.constant(np.int64(d.pick([2**33, 3, -7])))])
    d.output(d.node("Cast", [y], to=FLOAT))


@family
def integer_unary(d):
    kind, dtype = d.pick([(INT64, np.int64), (INT32, np.int32)])
    x = d.input(shape(d), lambda s: np.asarray(d.rng.integers(-5, 6, s), dtype), kind)
    d.output(d.node(d.pick(["Abs", "Neg", "Sign", "Identity"]), [x]), kind=kind)


@family
def mod(d):
    d.output(d.node("Mod", two(d, lambda s: d.floats(s, 3.0) + np.float32(0.01), FLOAT), fmod=1))


@family
def power(d):
    base = lambda s: d.floats(s)
    exponent = d.pick([np.int64, np.int32, np.float32])
    e = np.asarray(d.rng.integers(-2, 5, d.pick([[], [1], [3]])), exponent)
    if exponent is np.float32 and d.chance():
        e, base = e + np.float32(0.5), lambda s: np.abs(d.floats(s)) + np.float32(0.1)
    d.output(d.node("Pow", [d.input([d.some_dim(2), 3], base), d.operand(e)]))


@family
def power_of_integers(d):
    kind, dtype = d.pick([(INT64, np.int64), (INT32, np.int32)])
    x = d.input([2, 3], lambda s: np.asarray(d.rng.integers(-4, 5, s), dtype), kind)
    e = np.asarray(d.rng.integers(0, 4, d.pick([[], [3]])), d.pick([np.int64, np.int32, np.float32]))
    d.output(d.node("Pow", [x, d.operand(e)]), kind=kind)


@family
def comparison(d):
    kind, dtype = d.pick([(FLOAT, np.float32), (INT64, np.int64), (INT32, np.int32)])
    op = d.pick(["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
    y = d.node(op, two(d, lambda s: np.asarray(d.rng.integers(-2, 3, s), dtype), kind))
    d.output(y, kind=BOOL)
    if d.chance():
        d.output(d.node("Not", [y]), kind=BOOL)


@family
def logic(d):
    make = lambda s: np.asarray(d.rng.random(s) < 0.5)
    d.output(d.node(d.pick(["And", "Or", "Xor"]), two(d, make, BOOL)), kind=BOOL)


@family
def where(d):
    sizes = d.ints(2, 1, 4)
    condition = d.input(d.pick([sizes, sizes[1:], [1, 1]]), lambda s: np.asarray(d.rng.random(s) < 0.5), BOOL)
    x = d.input(sizes)
    y = d.operand(d.floats(d.pick([sizes, [], sizes[1:]])))
    d.output(d.node("Where", [condition, x, y] if d.chance() else [condition, y, x]))


@family
def variadic(d):
    op, count = d.pick(["Max", "Min", "Mean", "Sum"]), d.int(1, 4)
    d.output(d.node(op, [d.input(d.pick([[2, 3], [3], [1, 3]])) for _ in range(count)]))


@family
def clip(d):
    low, high = d.pick([(-1.0, 1.0), (0.0, 6.0), (-0.5, np.inf), (1.0, -1.0)])
    bounds = [
        d.operand(np.float32(low)) if d.chance(0.7) else "",
        d.operand(np.float32(high)) if d.chance(0.7) else "",
    ]
    while bounds and not bounds[-1]:
        bounds.pop()
    d.output(d.node("Clip", [d.input(shape(d)), *bounds]))


TYPES = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.INT64: np.int64,
    TensorProto.INT32: np.int32,
    TensorProto.INT8: np.int8,
    TensorProto.UINT8: np.uint8,
    TensorProto.INT16: np.int16,
    TensorProto.UINT16: np.uint16,
    TensorProto.UINT32: np.uint32,
    TensorProto.UINT64: np.uint64,
    TensorProto.BOOL: np.bool_,
    TensorProto.BFLOAT16: None,
}


@family
def cast(d):
    """From any type to any, by values that both hold."""
    source, to = d.pick([k for k, v in TYPES.items() if v]), d.pick(list(TYPES))
    signed = not {source, to} & {2, 4, 12, 13}

    def make(sizes):
        values = d.floats(sizes, 4.0)
        return np.asarray(values if signed else np.abs(values)).astype(TYPES[source])

    y = d.node("Cast", [d.input([2, 5], make, source)], to=to)
    d.output(d.node("Cast", [y], to=FLOAT))
    if TYPES[to]:
        d.output(y, kind=to)


@family
def rounded_and_signed(d):
    x = d.input([d.some_dim(6)], lambda s: halves(d, s))
    d.output(d.node("Round", [x]), d.node("Sign", [x]))


@family
def not_finite(d):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0], np.float32)
    x = d.node("Gather", [d.constant(special), d.input([4], lambda s: d.rng.integers(0, 6, s), INT64)])
    d.output(d.node("IsNaN", [x]), kind=BOOL)
    d.output(
        d.node("IsInf", [x], detect_negative=d.pick([None, 0, 1]), detect_positive=d.pick([None, 0, 1])),
        kind=BOOL,
    )


@family
def cast_like(d):
    kind, dtype = d.pick([(TensorProto.DOUBLE, np.float64), (INT64, np.int64), (TensorProto.INT8, np.int8)])
    y = d.node("CastLike", [d.input([2, d.some_dim(3)]), d.constant(np.ones(1, dtype))])
    d.output(y, kind=kind)


@family
def bits(d):
    d.opset = d.pick([18, 21])
    make = lambda s: np.asarray(d.rng.integers(0, 100, s), np.int32)
    d.output(d.node(d.pick(["BitwiseAnd", "BitwiseOr", "BitwiseXor"]), two(d, make, INT32)), kind=INT32)


@family
def bit_shift(d):
    make = lambda s: np.asarray(d.rng.integers(0, 20, s), np.uint8)
    inputs = [d.input([5], make, TensorProto.UINT8), d.constant(np.asarray(d.ints(5, 0, 6), np.uint8))]
    d.output(d.node("BitShift", inputs, direction=d.pick(["LEFT", "RIGHT"])), kind=TensorProto.UINT8)
