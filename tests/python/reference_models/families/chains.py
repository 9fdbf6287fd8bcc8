"""Shapes that belong to a batch: arithmetic on sizes that differ from one to the next."""

import numpy as np

from ..draft import FLOAT, INT64
from .registry import family


def size_of(d, x, axis):
    """The size of a dimension, the index from either end."""
    shape = d.node("Shape", [x])
    if d.chance():
        return d.node("Gather", [shape, d.constant(np.array([axis], np.int64))])
    axis = axis % 3
    bounds = [d.constant(np.array([i], np.int64)) for i in (axis, axis + 1)]
    return d.node("Slice", [shape, *bounds, d.constant(np.array([0], np.int64))])


def three(d):
    """An input of three dimensions of which some are dynamic, down to 0 at times."""
    rows = d.dim(2, 4, 1, 0) if d.chance(0.5) else d.dim(2, 4, 1)
    columns = [d.dim(3, 1, 5, 2), d.dim(3, 1, 0, 2), 3, 3]
    return d.input([rows, d.pick(columns), 4])


@family
def merged_dimensions(d):
    x = three(d)
    merged = d.node("Mul", [size_of(d, x, 0), size_of(d, x, d.pick([1, -2]))])
    target = d.node("Concat", [merged, size_of(d, x, d.pick([-1, 2]))], axis=0)
    y = d.node("MatMul", [d.node("Reshape", [x, target]), d.constant(d.floats([4, 5]))])
    back = d.node("Concat", [size_of(d, x, 0), size_of(d, x, 1), d.constant(np.array([5], np.int64))], axis=0)
    d.output(d.node("Reshape", [y, back]))


@family
def halved_dimensions(d):
    """A size divided and multiplied again, as a window or a head count is."""
    x = d.input([d.dim(4, 6, 2), 3])
    half = d.node(
        "Div", [d.node("Gather", [d.node("Shape", [x]), d.constant(np.int64(0))]), d.constant(np.int64(2))]
    )
    first = d.node("Unsqueeze", [half, d.constant(np.array([0], np.int64))])
    target = d.node("Concat", [first, d.constant(np.array([2, -1], np.int64))], axis=0)
    d.output(d.node("Reshape", [x, target]))


@family
def flattened_batch(d):
    x = d.input([d.dim(2, 3, 1), 2, d.dim(2, 1, 3), 2])
    batch = d.node("Slice", [d.node("Shape", [x]), *(d.constant(np.array([i], np.int64)) for i in (0, 1))])
    target = d.node("Concat", [batch, d.constant(np.array([-1], np.int64))], axis=0)
    d.output(d.node("Reshape", [x, target]))


@family
def expanded_to_a_batch(d):
    x = three(d)
    target = d.node("Concat", [size_of(d, x, 0), d.constant(np.array([1, 4], np.int64))], axis=0)
    token = d.node("Expand", [d.constant(d.floats([1, 1, 4])), target])
    d.output(d.node("Concat", [token, x], axis=1))


@family
def positions(d):
    x = three(d)
    count = d.node("Squeeze", [size_of(d, x, 1)])
    places = d.node("Range", [d.constant(np.int64(0)), count, d.constant(np.int64(1))])
    table = d.constant(d.floats([8, 4]))
    d.output(d.node("Add", [x, d.node("Gather", [table, places])]))


@family
def sliced_to_a_length(d):
    x = three(d)
    table = d.constant(d.floats([1, 6, 4]))
    start, axis = d.constant(np.array([0], np.int64)), d.constant(np.array([1], np.int64))
    d.output(d.node("Add", [x, d.node("Slice", [table, start, size_of(d, x, 1), axis])]))


@family
def all_but_the_last(d):
    x = three(d)
    ends = d.node("Sub", [size_of(d, x, 1), d.constant(np.array([1], np.int64))])
    y = d.node("Slice", [x, d.constant(np.array([0], np.int64)), ends, d.constant(np.array([1], np.int64))])
    d.output(y)


@family
def resized_to_another(d):
    """The size of one feature map is what another is resized to."""
    d.opset = d.pick([13, 18, 19])
    height = d.dim(3, 5, 2)
    small, large = d.input([1, 2, height, 3]), d.input([1, 1, d.dim(6, 7, 4), 6])
    tail = d.node("Slice", [d.node("Shape", [large]), *(d.constant(np.array([i], np.int64)) for i in (2, 4))])
    sizes = d.node("Concat", [d.constant(np.array([1, 2], np.int64)), tail], axis=0)
    d.output(d.node("Resize", [small, "", "", sizes], mode=d.pick(["nearest", "linear"])))


@family
def resized_by_computed_scales(d):
    d.opset = d.pick([13, 19])
    x = d.input([1, 2, d.dim(4, 6, 2), 4])
    shape = d.node("Cast", [d.node("Shape", [x])], to=FLOAT)
    wanted = d.constant(np.array([1, 2, 8, 6], np.float32))
    d.output(
        d.node(
            "Resize",
            [x, "", d.node("Div", [wanted, shape])],
            mode=d.pick(["nearest", "linear"]),
            coordinate_transformation_mode=d.pick(["asymmetric", "half_pixel"]),
        )
    )


@family
def padded_to_a_multiple(d):
    x = d.input([1, d.dim(3, 4, 6), 2])
    size = size_of(d, x, 1)
    rest = d.node("Mod", [d.node("Neg", [size]), d.constant(np.array([4], np.int64))])
    zeros = d.constant(np.zeros(4, np.int64))
    pads = d.node("Concat", [zeros, rest, d.constant(np.zeros(1, np.int64))], axis=0)
    padded = d.node("Pad", [x, pads])
    d.output(d.node("Reshape", [padded, d.constant(np.array([-1, 4, 2], np.int64))]))


@family
def counted(d):
    """A mean written as a sum divided by a size."""
    x = three(d)
    count = d.node("Cast", [size_of(d, x, 1)], to=FLOAT)
    total = d.node("ReduceSum", [x, d.constant(np.array([1], np.int64))], keepdims=0)
    d.output(d.node("Div", [total, count]))


@family
def empty_batch(d):
    x = d.input([d.dim(3, 0, 1), d.int(2, 4)])
    y = d.node("Softmax", [d.node("Relu", [x])], axis=-1)
    d.output(d.node("Concat", [y, x], axis=d.pick([0, 1])))


@family
def linear_of_nothing(d):
    k, n = d.ints(2, 1, 4)
    x = d.input([d.dim(2, 0, 3), k])
    if d.chance():
        y = d.node("Gemm", [x, d.constant(d.floats([k, n])), d.constant(d.floats([n]))])
    else:
        y = d.node("Add", [d.node("MatMul", [x, d.constant(d.floats([k, n]))]), d.constant(d.floats([n]))])
    d.output(d.node("LayerNormalization", [y, d.constant(np.ones(n, np.float32))]) if d.opset >= 17 else y)


@family
def sizes_as_outputs(d):
    x = three(d)
    d.output(d.node("Shape", [d.node("Transpose", [x], perm=[2, 0, 1])]), kind=INT64)
    d.output(d.node("Relu", [x]))
