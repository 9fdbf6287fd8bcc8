"""Operators that only move elements: slices, pads, splits, reshapes, transposes."""

import numpy as np
from onnx import numpy_helper

from ..draft import BOOL, FLOAT, INT64
from .registry import family


def i64(values):
    return np.asarray(values, np.int64)


@family
def slice_(d):
    rank = d.int(1, 4)
    sizes = d.ints(rank, 1, 6)
    count = d.int(1, rank)
    axes = d.permuted(rank)[:count]
    starts, ends, steps = [], [], []
    for axis in axes:
        n = sizes[axis]
        if d.chance(0.4):
            starts.append(d.pick([n - 1, -1, n + 3, 2**31 - 1, d.int(0, n)]))
            ends.append(d.pick([-(n + 1), -n - 5, 0, -(2**31), -(2**63), d.int(0, n)]))
            steps.append(d.pick([-1, -1, -2, -3]))
        else:
            starts.append(d.pick([0, d.int(-n - 2, n + 1), -n]))
            ends.append(d.pick([n, n + 4, 2**63 - 1, 2**31 - 1, d.int(-n, n), -1]))
            steps.append(d.pick([1, 1, 2, 3]))
    x = d.input([d.dim(n, n + 2) if d.chance(0.3) else n for n in sizes])
    axes = [a - rank if d.chance(0.3) else a for a in axes]
    if axes == list(range(count)) and d.chance():
        inputs = [x, d.operand(i64(starts)), d.operand(i64(ends))]
    else:
        inputs = [x, d.operand(i64(starts)), d.operand(i64(ends)), d.operand(i64(axes))]
        if any(s != 1 for s in steps) or d.chance():
            inputs.append(d.operand(i64(steps)))
    d.output(d.node("Slice", inputs))


@family
def pad(d):
    rank = d.int(1, 4)
    sizes = d.ints(rank, 2, 5)
    d.opset = d.pick([13, 18, 19, 21])
    mode = d.pick([None, "constant", "edge", "reflect"] + (["wrap"] if d.opset >= 19 else []))
    limit = min(sizes) - 1
    low = -1 if mode in (None, "constant") else 0
    some_axes = d.opset >= 18 and d.chance(0.4)
    axes = d.permuted(rank)[: d.int(1, rank)] if some_axes else list(range(rank))
    x = d.input([d.dim(n, n + 1) if d.chance(0.3) else n for n in sizes])
    inputs = [x, d.operand(i64(d.ints(2 * len(axes), low, limit)))]
    value = (
        d.operand(np.float32(d.pick([0.0, 1.5, -np.inf])))
        if mode in (None, "constant") and d.chance()
        else ""
    )
    if some_axes:
        axes = [a - rank if d.chance(0.4) else a for a in axes]
        inputs += [value, d.operand(i64(axes))]
    elif value:
        inputs.append(value)
    d.output(d.node("Pad", inputs, mode=mode))


@family
def split(d):
    rank = d.int(1, 3)
    axis = d.axis(rank)
    parts = d.int(1, 4)
    sizes = d.ints(rank, 1, 4)
    given = d.chance()
    lengths = d.ints(parts, 0 if d.chance(0.2) else 1, 3)
    d.opset = d.pick([13, 18, 21])
    even = d.opset < 18 or d.chance()
    sizes[axis] = sum(lengths) if given else parts * d.int(1, 3) if even else d.int(parts, 3 * parts)
    shape = [*sizes]
    if not given and d.chance(0.4):
        shape[axis] = d.dim(sizes[axis], sizes[axis] + parts)
    inputs = [d.input(shape)] + ([d.operand(i64(lengths))] if given else [])
    count = parts if not given and d.opset >= 18 else None
    made = d.node("Split", inputs, parts, axis=None if axis == 0 and d.chance() else axis, num_outputs=count)
    d.output(*(made if parts > 1 else [made]))


@family
def transpose(d):
    rank = d.int(1, 5)
    x = d.input([d.some_dim(d.int(1, 4)) for _ in range(rank)])
    d.output(d.node("Transpose", [x], perm=d.pick([None, d.permuted(rank)])))


@family
def reshape(d):
    d.opset = d.pick([13, 14, 19])
    rows = d.dim(2, 4, 1) if d.chance() else 2
    x = d.input([rows, 3, 4])
    target = d.pick([[0, -1], [-1], [0, 0, 2, 2], [-1, 12], [0, 12], [-1, 3, 2, 2], [0, 4, -1], [1, -1, 6]])
    d.output(d.node("Reshape", [x, d.operand(i64(target))]))


@family
def reshape_of_nothing(d):
    d.opset = d.pick([14, 19])
    x = d.input([d.dim(2, 0, 1), 6])
    target, zero = d.pick([([0, 2, 3], None), ([-1, 3], None), ([0, 3, 2], 0), ([-1, 6], 1)])
    d.output(d.node("Reshape", [x, d.operand(i64(target))], allowzero=zero))


@family
def flatten(d):
    rank = d.int(1, 4)
    x = d.input([d.some_dim(d.int(1, 4)) for _ in range(rank)])
    d.output(d.node("Flatten", [x], axis=d.pick([None, d.int(-rank, rank)])))


@family
def squeeze(d):
    sizes = [d.pick([1, 1, d.int(2, 3)]) for _ in range(d.int(2, 5))]
    ones = [i for i, n in enumerate(sizes) if n == 1]
    axes = [a - len(sizes) if d.chance(0.4) else a for a in ones if d.chance(0.7)]
    x = d.input(sizes)
    if d.chance(0.3):
        d.opset = 11
        d.output(d.node("Squeeze", [x], axes=axes or None))
    else:
        d.output(d.node("Squeeze", [x] + ([d.operand(i64(axes))] if axes else [])))


@family
def unsqueeze(d):
    rank = d.int(0, 3)
    count = d.int(1, 3)
    axes = [a - rank - count if d.chance(0.4) else a for a in d.permuted(rank + count)[:count]]
    x = d.input([d.some_dim(d.int(1, 4)) for _ in range(rank)])
    if d.chance(0.3):
        d.opset = 11
        d.output(d.node("Unsqueeze", [x], axes=axes))
    else:
        d.output(d.node("Unsqueeze", [x, d.operand(i64(axes))]))


@family
def concat(d):
    rank = d.int(1, 4)
    sizes, axis = d.ints(rank, 1, 3), d.axis(rank)

    def one():
        own = [*sizes]
        own[axis] = d.int(0, 3) if d.chance(0.2) else d.int(1, 3)
        return d.operand(d.floats(own)) if d.chance(0.4) else d.input(own)

    d.output(d.node("Concat", [d.input(sizes), *(one() for _ in range(d.int(0, 3)))], axis=axis))


@family
def expand(d):
    sizes = [d.pick([1, d.int(1, 4)]) for _ in range(d.int(0, 3))]
    target = [d.int(1, 3) for _ in range(d.int(0, 2))] + [
        d.pick([1, n if n > 1 else d.int(1, 4)]) for n in sizes
    ]
    d.output(d.node("Expand", [d.input(sizes), d.operand(i64(target))]))


@family
def tile(d):
    rank = d.int(1, 4)
    x = d.input([d.some_dim(d.int(1, 3)) for _ in range(rank)])
    d.output(d.node("Tile", [x, d.operand(i64(d.ints(rank, 0 if d.chance(0.2) else 1, 3)))]))


@family
def depth_to_space(d):
    block = d.int(1, 3)
    op = d.pick(["DepthToSpace", "DepthToSpace", "SpaceToDepth"])
    if op == "DepthToSpace":
        x = d.input([d.some_dim(2), block * block * d.int(1, 2), *d.ints(2, 1, 3)])
        d.output(d.node(op, [x], blocksize=block, mode=d.pick([None, "DCR", "CRD"])))
    else:
        x = d.input([d.some_dim(2), d.int(1, 3), *(block * n for n in d.ints(2, 1, 3))])
        d.output(d.node(op, [x], blocksize=block))


@family
def trilu(d):
    d.opset = d.pick([14, 18])
    x = d.input([*d.pick([[], [2]]), d.some_dim(d.int(1, 4)), d.int(1, 5)])
    k = [d.operand(np.int64(d.int(-5, 5)))] if d.chance(0.7) else []
    d.output(d.node("Trilu", [x, *k], upper=d.pick([None, 0, 1])))


@family
def trilu_of_a_mask(d):
    d.opset = 14
    mask = d.node("Trilu", [d.input([3, 4], lambda s: d.rng.random(s) < 0.8, BOOL)], upper=d.pick([0, 1]))
    d.output(mask, kind=BOOL)


@family
def reverse_sequence(d):
    time, batch = d.int(2, 5), d.int(1, 3)
    lengths = d.operand(i64(d.ints(batch, 1, time)))
    first = d.chance()
    x = d.input([time, batch, 2] if first else [batch, time, 2])
    d.output(
        d.node("ReverseSequence", [x, lengths], time_axis=0 if first else 1, batch_axis=1 if first else 0)
    )


@family
def eye_like(d):
    d.output(d.node("EyeLike", [d.input([d.some_dim(3), 4])], k=d.pick([None, -1, 2])))


@family
def center_crop_pad(d):
    d.opset = 18
    target = i64(d.ints(2, 1, 6))
    d.output(d.node("CenterCropPad", [d.input([3, 4]), d.operand(target)]))


@family
def col2im(d):
    d.opset = 18
    block = d.ints(2, 1, 2)
    image = [b * d.int(1, 3) for b in block]
    count = (image[0] // block[0]) * (image[1] // block[1])
    x = d.input([1, 2 * block[0] * block[1], count])
    d.output(d.node("Col2Im", [x, d.operand(i64(image)), d.operand(i64(block))], strides=block))


@family
def constant_of_shape(d):
    value = d.pick([None, numpy_helper.from_array(np.array([1.5], np.float32))])
    d.output(d.node("ConstantOfShape", [d.operand(i64(d.ints(d.int(1, 3), 0, 3)))], value=value), kind=FLOAT)


@family
def range_(d):
    if d.chance():
        values = [np.float32(v) for v in (d.int(-3, 3), d.int(-9, 9), d.pick([0.5, -0.5, 1.0, -1.25]))]
        d.output(d.node("Range", [d.operand(v) for v in values]))
    else:
        values = [np.int64(v) for v in (d.int(-3, 3), d.int(-9, 9), d.pick([1, 2, -1, -3]))]
        d.output(d.node("Range", [d.operand(v) for v in values]), kind=INT64)


@family
def shape_and_size(d):
    rank = d.int(1, 4)
    d.opset = d.pick([15, 19])
    x = d.input([d.some_dim(d.int(1, 5)) for _ in range(rank)])
    ends = d.pick(
        [{}, {"start": d.int(-rank - 1, rank)}, {"start": d.int(-rank, rank), "end": d.int(-rank, rank + 1)}]
    )
    d.output(d.node("Shape", [x], **ends), d.node("Size", [x]), kind=INT64)
