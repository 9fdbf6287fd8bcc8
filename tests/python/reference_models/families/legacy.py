"""Forms of opsets 6 to 12: attributes where later ones have inputs."""

import numpy as np

from ..draft import INT64
from .registry import family


@family
def slice_by_attributes(d):
    d.opset = d.pick([6, 7, 9])
    axes = d.pick([None, [0, 2], [1], [2, 0]])
    count = 3 if axes is None else len(axes)
    x = d.input([d.some_dim(3), 4, 5])
    d.output(
        d.node(
            "Slice", [x], axes=axes, starts=d.ints(count, -3, 2), ends=[d.pick([9, -1, 3, 2**31 - 1])] * count
        )
    )


@family
def pad_by_attributes(d):
    d.opset = d.pick([7, 9, 10])
    mode = d.pick([None, "constant", "edge", "reflect"])
    value = d.pick([None, 0.5]) if mode in (None, "constant") else None
    d.output(d.node("Pad", [d.input([d.some_dim(3), 4])], pads=d.ints(4, 0, 2), mode=mode, value=value))


@family
def reduce_by_attributes(d):
    d.opset = d.pick([7, 9, 11, 12])
    low = -3 if d.opset >= 11 else 0
    op = "Reduce" + d.pick(["Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"])
    d.output(
        d.node(
            op,
            [d.input([2, d.some_dim(3), 4])],
            axes=d.pick([None, [d.int(low, 2)], [0, 2]]),
            keepdims=d.pick([None, 0, 1]),
        )
    )


@family
def clip_by_attributes(d):
    d.opset = d.pick([6, 9, 10])
    d.output(
        d.node(
            "Clip", [d.input([d.some_dim(3), 4])], min=d.pick([None, -0.5, 0.0]), max=d.pick([None, 0.7, 6.0])
        )
    )


@family
def top_k_old(d):
    d.opset = d.pick([9, 10, 11])
    x, k = d.input([3, 5]), d.int(1, 5)
    if d.opset == 9:
        values, places = d.node("TopK", [x], 2, k=k, axis=d.pick([None, 1]))
    else:
        values, places = d.node("TopK", [x, d.constant(np.array([k], np.int64))], 2, axis=d.pick([None, 1]))
    d.output(values)
    d.output(places, kind=INT64)


@family
def split_by_attributes(d):
    d.opset = d.pick([7, 11])
    lengths = d.pick([None, [1, 3]])
    d.output(*d.node("Split", [d.input([d.some_dim(3), 4])], 2, axis=1, split=lengths))


@family
def dropout_by_attributes(d):
    d.opset = d.pick([7, 10])
    d.output(d.node("Dropout", [d.input([2, 3])], ratio=d.pick([None, 0.4])))


@family
def batch_normalization_old(d):
    d.opset = d.pick([7, 9])
    c = d.int(1, 4)
    vectors = [d.constant(d.floats([c])) for _ in range(3)] + [
        d.constant(np.abs(d.floats([c])) + np.float32(0.1))
    ]
    d.output(d.node("BatchNormalization", [d.input([2, c, 3]), *vectors], epsilon=d.pick([None, 1e-3])))


@family
def gemm_old(d):
    d.opset = d.pick([7, 9])
    k, n = d.ints(2, 1, 4)
    inputs = [d.input([3, k]), d.constant(d.floats([k, n])), d.constant(d.floats(d.pick([[n], [3, n], [1]])))]
    d.output(d.node("Gemm", inputs, alpha=d.pick([None, 0.5]), beta=d.pick([None, 2.0])))


@family
def resize_old(d):
    d.opset = d.pick([10, 11, 12])
    x = d.input([1, 2, *d.ints(2, 2, 4)])
    scales = d.constant(np.array([1, 1, d.pick([0.5, 2.0, 1.5]), d.pick([1.0, 3.0])], np.float32))
    mode = d.pick([None, "nearest", "linear"])
    if d.opset == 10:
        d.output(d.node("Resize", [x, scales], mode=mode))
    else:
        roi = d.constant(np.zeros(0, np.float32))
        d.output(d.node("Resize", [x, roi, scales], mode=mode))


@family
def squeeze_by_attributes(d):
    d.opset = d.pick([7, 11])
    x = d.node("Unsqueeze", [d.input([2, 1, 3])], axes=d.pick([[0], [1, 3], [4, 0]]))
    d.output(d.node("Squeeze", [x], axes=d.pick([None])))


@family
def pools_old(d):
    d.opset = d.pick([7, 8, 10])
    op = d.pick(["MaxPool", "AveragePool"])
    ceil = d.pick([None, 0, 1]) if d.opset == 10 else None
    padded = d.pick([{}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"pads": [1, 0, 0, 1]}])
    x = d.input([1, 2, d.some_dim(5), 6])
    d.output(
        d.node(
            op,
            [x],
            kernel_shape=d.ints(2, 2, 3),
            strides=d.pick([None, [2, 2], [1, 2]]),
            ceil_mode=ceil,
            **padded,
        )
    )


@family
def broadcast_by_attribute(d):
    """The second operand laid at an axis of the first, which onnxruntime no longer knows."""
    d.opset = 6
    x = d.input([d.some_dim(2), 3, 4])
    axis, sizes = d.pick([(None, [4]), (1, [3]), (1, [3, 4]), (0, [1])])
    second = d.floats(sizes) + np.float32(3)
    op, function = d.pick([("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide)])
    behind = 3 - len(sizes) - (3 - len(sizes) if axis is None else axis)
    d.judge = lambda batch: [function(batch["x0"], second.reshape(*sizes, *[1] * behind))]
    d.output(d.node(op, [x, d.constant(second)], broadcast=1, axis=axis))


@family
def softmax_old(d):
    d.opset = d.pick([7, 9])
    x = d.input([d.some_dim(2), 3, 2])
    d.output(d.node("Softmax", [x], axis=d.pick([None, 0, 1, 2])))
