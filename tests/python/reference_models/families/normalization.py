"""Softmax and its kin at every opset, and the normalizations."""

import numpy as np

from .registry import family, family_of_each


@family_of_each(["Softmax", "LogSoftmax", "Hardmax"])
def softmax(d, op):
    d.opset = d.pick([9, 11, 13, 18])
    rank = d.int(1, 4)
    x = d.input([d.some_dim(d.int(1, 4)) for _ in range(rank)], lambda s: d.floats(s, 3.0))
    low = -rank if d.opset >= 11 else 0
    axis = d.pick([None, d.int(low, rank - 1)]) if rank > 1 or d.opset >= 13 else d.int(low, 0)
    d.output(d.node(op, [x], axis=axis))


@family
def masked_softmax(d):
    n = d.int(2, 5)
    x = d.input([d.some_dim(2), n], lambda s: d.floats(s, 2.0))
    floor = d.pick([-np.inf, np.finfo(np.float32).min, -1e9, -1e4])
    keep = np.ones(n, bool)
    keep[1:] = d.rng.random(n - 1) < 0.5
    if d.chance():
        mask = np.where(keep, 0.0, floor).astype(np.float32)
        scores = d.node("Add", [x, d.operand(mask)])
    else:
        scores = d.node("Where", [d.operand(keep), x, d.constant(np.float32(floor))])
    d.output(d.node("Softmax", [scores], axis=-1))


@family
def softmax_masked_whole(d):
    """A row without a position to attend to, and the guard that turns its NaN into zeros."""
    x = d.input([d.some_dim(2), 3])
    scores = d.node("Add", [x, d.constant(np.full(3, -np.inf, np.float32))])
    y = d.node("Softmax", [scores], axis=-1)
    d.output(d.node("Where", [d.node("IsNaN", [y]), d.constant(np.float32(0)), y]))


@family
def layer_normalization(d):
    d.opset = d.pick([17, 18, 21])
    rank = d.int(2, 4)
    sizes = d.ints(rank, 1, 5)
    axis = d.axis(rank)
    sizes[-1] = max(sizes[-1], 2)
    inner = sizes[axis % rank :]
    inputs = [d.input(sizes), d.constant(d.floats(inner))]
    if d.chance(0.7):
        inputs.append(d.constant(d.floats(inner)))
    axis = None if axis == -1 and d.chance() else axis
    d.output(d.node("LayerNormalization", inputs, axis=axis, epsilon=d.pick([None, 1e-3])))


@family
def layer_normalization_statistics(d):
    d.opset = 17
    n = d.int(2, 6)
    made = d.node("LayerNormalization", [d.input([3, n]), d.constant(d.floats([n]))], 3)
    d.output(*made)


@family
def layer_normalization_by_hand(d):
    d.opset = 17
    n = d.int(2, 6)
    x = d.input([d.some_dim(2), 3, n])
    mean = d.node("ReduceMean", [x], axes=[-1])
    centred = d.node("Sub", [x, mean])
    two = d.constant(d.pick([np.float32(2), np.int64(2), np.int32(2)]))
    squared = d.node("Pow", [centred, two]) if d.chance() else d.node("Mul", [centred, centred])
    variance = d.node("Add", [d.node("ReduceMean", [squared], axes=[-1]), d.constant(np.float32(1e-5))])
    y = d.node("Div", [centred, d.node("Sqrt", [variance])])
    d.output(d.node("Add", [d.node("Mul", [y, d.constant(d.floats([n]))]), d.constant(d.floats([n]))]))


@family
def rms_normalization(d):
    d.opset = 23
    rank = d.int(2, 4)
    sizes = d.ints(rank, 1, 5)
    axis = d.axis(rank)
    scale = d.constant(d.floats(sizes[axis % rank :]))
    d.output(
        d.node("RMSNormalization", [d.input(sizes), scale], axis=d.pick([axis]), epsilon=d.pick([None, 1e-3]))
    )


@family
def group_normalization(d):
    d.opset = d.pick([18, 21, 21])
    groups, each = d.int(1, 3), d.int(1, 3)
    channels = groups * each
    x = d.input([d.some_dim(2), channels, *d.ints(d.int(1, 3), 2, 4)])
    length = groups if d.opset == 18 else channels
    vectors = [d.constant(d.floats([length])) for _ in range(2)]
    d.output(d.node("GroupNormalization", [x, *vectors], num_groups=groups, epsilon=d.pick([None, 1e-3])))


@family
def instance_normalization(d):
    channels = d.int(1, 4)
    x = d.input([d.some_dim(2), channels, *(d.some_dim(d.int(2, 5)) for _ in range(d.int(1, 3)))])
    vectors = [d.constant(d.floats([channels])) for _ in range(2)]
    d.output(d.node("InstanceNormalization", [x, *vectors], epsilon=d.pick([None, 1e-3])))


@family
def group_normalization_by_instances(d):
    """As the exporters write it: reshaped to groups, normalized, reshaped back."""
    groups, channels = 2, 4
    x = d.input([d.some_dim(2), channels, 3, 3])
    flat = d.node("Reshape", [x, d.constant(np.array([0, groups, -1], np.int64))])
    ones, zeros = d.constant(np.ones(groups, np.float32)), d.constant(np.zeros(groups, np.float32))
    y = d.node("InstanceNormalization", [flat, ones, zeros])
    y = d.node("Reshape", [y, d.node("Shape", [x])])
    d.output(d.node("Mul", [y, d.constant(d.floats([channels, 1, 1]))]))


@family
def lrn(d):
    x = d.input([d.some_dim(2), d.int(1, 7), *d.ints(2, 1, 4)])
    d.output(
        d.node(
            "LRN",
            [x],
            size=d.pick([1, 3, 5]),
            alpha=d.pick([None, 0.05]),
            beta=d.pick([None, 0.5]),
            bias=d.pick([None, 2.0]),
        )
    )


@family
def lp_normalization(d):
    rank = d.int(1, 3)
    x = d.input(d.ints(rank, 1, 5))
    d.output(d.node("LpNormalization", [x], axis=d.pick([None, d.axis(rank)]), p=d.pick([None, 1, 2])))


@family
def mean_variance_normalization(d):
    axes = d.pick([None, [0, 2, 3], [1], [-1, -2]])
    d.output(d.node("MeanVarianceNormalization", [d.input([3, 2, 3, 2])], axes=axes))


@family
def dropout(d):
    y = d.node(
        "Dropout", [d.input([d.some_dim(3), 4])] + ([d.constant(np.float32(0.3))] if d.chance() else [])
    )
    d.output(d.node("Relu", [y]))
