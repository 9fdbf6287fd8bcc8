"""Small networks: layers in a row, as exporters leave them, with a batch that varies."""

import numpy as np

from .registry import family

ACTIVATIONS = [
    "Relu",
    "Tanh",
    "Sigmoid",
    "Elu",
    "LeakyRelu",
    "HardSwish",
    "Mish",
    "Selu",
    "Softplus",
    "Softsign",
]


def linear(d, x, k, n):
    """One of the ways a Linear is written."""
    way = d.int(0, 3)
    weight, bias = d.floats([k, n], k**-0.5), d.floats([n], 0.3)
    if way == 0:
        return d.node("Add", [d.node("MatMul", [x, d.constant(weight)]), d.constant(bias)])
    if way == 1:
        return d.node("Add", [d.constant(bias), d.node("MatMul", [x, d.constant(weight)])])
    if way == 2:
        turned = d.node("Transpose", [d.constant(np.ascontiguousarray(weight.T))], perm=[1, 0])
        return d.node("MatMul", [x, turned])
    return d.node("Einsum", [x, d.constant(weight)], equation="...i,ij->...j")


def activated(d, x):
    if d.chance(0.2):
        return d.node("Mul", [x, d.node("Sigmoid", [x])])
    if d.chance(0.2):
        inner = d.node("Erf", [d.node("Div", [x, d.constant(np.float32(2**0.5))])])
        half = d.node("Mul", [x, d.node("Add", [inner, d.constant(np.float32(1))])])
        return d.node("Mul", [half, d.constant(np.float32(0.5))])
    return d.node(d.pick(ACTIVATIONS), [x])


def new_opset(d):
    d.opset = d.pick([18, 19, 21])


@family
def perceptron(d):
    new_opset(d)
    widths = d.ints(d.int(2, 4), 1, 6)
    x = d.input([d.dim(2, 5, 1), widths[0]])
    for k, n in zip(widths, widths[1:]):
        x = activated(d, linear(d, x, k, n))
    d.output(x)


@family
def residual_blocks(d):
    new_opset(d)
    width = d.int(2, 5)
    x = d.input([d.dim(2, 1, 3), d.dim(3, 1, 2), width])
    for _ in range(d.int(1, 3)):
        vectors = [d.constant(d.floats([width])) for _ in range(2)]
        h = d.node("LayerNormalization", [x, *vectors], axis=-1)
        h = linear(d, activated(d, linear(d, h, width, 2 * width)), 2 * width, width)
        x = d.node("Add", [x, h])
    d.output(x)


@family
def image_classifier(d):
    new_opset(d)
    x, channels = d.input([d.dim(2, 1, 3), 3, 9, 8]), 3
    for _ in range(d.int(1, 2)):
        filters = d.int(1, 4)
        w = d.constant(d.floats([filters, channels, 3, 3], 0.3))
        x = d.node(
            "Conv",
            [x, w],
            auto_pad=d.pick([None, "SAME_UPPER", "SAME_LOWER"]),
            strides=d.pick([None, [2, 2]]),
        )
        vectors = [d.constant(d.floats([filters])) for _ in range(3)]
        x = d.node("BatchNormalization", [x, *vectors, d.constant(np.ones(filters, np.float32))])
        x, channels = activated(d, x), filters
    x = d.node(d.pick(["GlobalAveragePool", "GlobalMaxPool"]), [x])
    x = (
        d.node("Flatten", [x])
        if d.chance()
        else d.node("Squeeze", [x, d.constant(np.array([2, 3], np.int64))])
    )
    d.output(d.node("Softmax", [linear(d, x, channels, 4)], axis=-1))


@family
def down_and_up_again(d):
    """Halved, doubled and joined with what was there before, whatever the sizes are."""
    d.opset = d.pick([18, 19])
    x = d.input([1, 2, d.dim(6, 7, 5), d.dim(6, 4, 5)])
    small = d.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=d.pick([0, 1]))
    small = d.node("Conv", [small, d.constant(d.floats([3, 2, 1, 1]))])
    shape = d.node("Shape", [x], start=2)
    if d.chance():
        large = d.node("Resize", [small, "", "", shape], axes=[2, 3], mode=d.pick(["nearest", "linear"]))
    else:
        lead = d.node("Shape", [small], end=2)
        sizes = d.node("Concat", [lead, shape], axis=0)
        large = d.node("Resize", [small, "", "", sizes], mode=d.pick(["nearest", "linear"]))
    d.output(d.node("Concat", [large, x], axis=1))


@family
def gated_unit(d):
    new_opset(d)
    n = d.int(1, 4)
    x = linear(d, d.input([d.dim(3, 1), 4]), 4, 2 * n)
    given = d.chance()
    parts = [d.constant(np.array([n, n], np.int64))] if given else []
    gate, value = d.node("Split", [x, *parts], 2, axis=-1, num_outputs=None if given else 2)
    d.output(d.node("Mul", [activated(d, gate), value]))


@family
def embedding_with_a_mask(d):
    """Tokens of several lengths, padded; the padding neither attended to nor counted."""
    new_opset(d)
    width, rows, length = 4, d.dim(2, 3, 1), d.dim(4, 3, 5)
    ids = d.input([rows, length], lambda s: np.asarray(d.rng.integers(0, 9, s), np.int64), 7)
    keep = lambda s: np.asarray(np.arange(s[1]) < d.rng.integers(1, s[1] + 1, [s[0], 1]), np.int64)
    mask = d.node("Cast", [d.input([rows, length], keep, 7)], to=1)
    x = d.node("Gather", [d.constant(d.floats([9, width])), ids])
    key = d.node("Transpose", [linear(d, x, width, width)], perm=[0, 2, 1])
    scores = d.node("MatMul", [linear(d, x, width, width), key])
    absent = d.node("Sub", [d.constant(np.float32(1)), mask])
    floor = d.constant(np.float32(d.pick([-1e4, -1e9, np.finfo(np.float32).min])))
    bias = d.node("Unsqueeze", [d.node("Mul", [absent, floor]), d.constant(np.array([1], np.int64))])
    attended = d.node("MatMul", [d.node("Softmax", [d.node("Add", [scores, bias])], axis=-1), x])
    wide = d.node("Unsqueeze", [mask, d.constant(np.array([-1], np.int64))])
    axis = d.constant(np.array([1], np.int64))
    total = d.node("ReduceSum", [d.node("Mul", [attended, wide]), axis], keepdims=0)
    d.output(d.node("Div", [total, d.node("ReduceSum", [wide, axis], keepdims=0)]))
