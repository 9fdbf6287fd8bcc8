"""Gathers, scatters and selections, with indices from the end and beyond 0."""

import numpy as np

from ..draft import BOOL, FLOAT, INT32, INT64
from .registry import family


def indices(d, sizes, length, kind=np.int64):
    return np.asarray(d.rng.integers(-length, length, sizes), kind)


@family
def gather(d):
    rank = d.int(1, 4)
    sizes, axis = d.ints(rank, 1, 5), d.axis(rank)
    kind = d.pick([np.int64, np.int32])
    chosen = indices(d, d.pick([[], [1], [3], [2, 2]]), sizes[axis], kind)
    x = d.constant(d.floats(sizes)) if d.chance(0.3) else d.input(sizes)
    chosen = d.given(chosen) if d.chance(0.4) else d.operand(chosen)
    d.output(d.node("Gather", [x, chosen], axis=None if axis == 0 and d.chance() else axis))


@family
def gather_the_last(d):
    """A negative index into a dimension that differs between batches."""
    x = d.input([2, d.dim(3, 5, 1), 4])
    d.output(d.node("Gather", [x, d.constant(np.int64(-1))], axis=1))


@family
def gather_elements(d):
    rank = d.int(1, 3)
    sizes, axis = d.ints(rank, 1, 4), d.axis(rank)
    own = [d.int(1, n) for n in sizes]
    own[axis] = d.int(1, 5)
    d.output(d.node("GatherElements", [d.input(sizes), d.operand(indices(d, own, sizes[axis]))], axis=axis))


@family
def gather_nd(d):
    sizes = d.ints(3, 1, 4)
    batch_dims = d.int(0, 1)
    depth = d.int(1, 3 - batch_dims)
    lead = sizes[:batch_dims] + d.pick([[], [2], [2, 3]])
    chosen = np.stack([indices(d, lead, n) for n in sizes[batch_dims : batch_dims + depth]], -1)
    d.output(
        d.node("GatherND", [d.input(sizes), d.operand(chosen)], batch_dims=batch_dims or d.pick([None, 0]))
    )


@family
def scatter_elements(d):
    rank = d.int(1, 3)
    sizes, axis = d.ints(rank, 1, 4), d.axis(rank)
    own = [d.int(1, n) for n in sizes]
    d.opset = d.pick([13, 16, 18])
    reduction = d.pick([None, "none", "add", "mul", "max", "min"][: {13: 1, 16: 4, 18: 6}[d.opset]])
    # Each place once: which of two updates stays is nowhere said.
    lines = np.apply_along_axis(lambda _: d.rng.permutation(sizes[axis])[: own[axis]], axis, np.zeros(own))
    chosen = lines.astype(np.int64) - np.where(d.rng.random(own) < 0.4, sizes[axis], 0)
    updates = d.input(own) if d.chance() else d.operand(d.floats(own))
    d.output(
        d.node(
            "ScatterElements", [d.input(sizes), d.operand(chosen), updates], axis=axis, reduction=reduction
        )
    )


@family
def scatter_nd(d):
    sizes = d.ints(3, 1, 4)
    depth = d.int(1, 3)
    total = int(np.prod(sizes[:depth]))
    flat = d.rng.permutation(total)[: d.int(1, total)]
    chosen = np.stack(np.unravel_index(flat, sizes[:depth]), -1).astype(np.int64)
    chosen = chosen - np.where(d.rng.random(chosen.shape) < 0.4, np.array(sizes[:depth]), 0)
    d.opset = d.pick([13, 16, 18])
    reduction = d.pick([None, "none", "add", "mul", "max", "min"][: {13: 1, 16: 4, 18: 6}[d.opset]])
    updates = d.input([len(flat), *sizes[depth:]])
    d.output(d.node("ScatterND", [d.input(sizes), d.operand(chosen), updates], reduction=reduction))


@family
def arg_max(d):
    rank = d.int(1, 4)
    x = d.input(d.ints(rank, 1, 5), lambda s: np.round(d.floats(s)))
    op = d.pick(["ArgMax", "ArgMin"])
    y = d.node(
        op,
        [x],
        axis=d.pick([None, d.axis(rank)]),
        keepdims=d.pick([None, 0, 1]),
        select_last_index=d.pick([None, 0, 1]),
    )
    d.output(y, kind=INT64)


@family
def top_k(d):
    rank = d.int(1, 3)
    sizes, axis = d.ints(rank, 1, 6), d.axis(rank)
    k = d.operand(np.array([d.int(1, sizes[axis])], np.int64))
    values, places = d.node(
        "TopK",
        [d.input(sizes), k],
        2,
        axis=d.pick([axis]),
        largest=d.pick([None, 0, 1]),
        sorted=d.pick([None, 1]),
    )
    d.output(values)
    d.output(places, kind=INT64)


@family
def top_k_of_ties(d):
    x = d.input([2, 6], lambda s: np.round(d.floats(s)))
    values, places = d.node("TopK", [x, d.constant(np.array([4], np.int64))], 2, largest=d.pick([0, 1]))
    d.output(values)
    d.output(places, kind=INT64)


@family
def cum_sum(d):
    rank = d.int(1, 3)
    axis = d.operand(d.pick([np.int64, np.int32])(d.axis(rank)))
    x = d.input([d.some_dim(d.int(1, 5)) for _ in range(rank)])
    d.output(d.node("CumSum", [x, axis], exclusive=d.pick([None, 0, 1]), reverse=d.pick([None, 0, 1])))


@family
def non_zero(d):
    x = d.input(d.ints(d.int(1, 3), 1, 4), lambda s: np.round(d.floats(s)))
    d.output(d.node("NonZero", [x]), kind=INT64)


@family
def one_hot(d):
    depth = d.int(2, 5)
    chosen = d.given(indices(d, [2, 3], depth))
    inputs = [
        chosen,
        d.operand(d.pick([np.int64(depth), np.array([depth], np.int64)])),
        d.operand(d.floats([2])),
    ]
    d.output(d.node("OneHot", inputs, axis=d.pick([None, 0, 1, -1, -2])))


@family
def one_hot_out_of_range(d):
    chosen = d.given(np.array([-5, -1, 0, 3, 7], np.int64))
    d.output(d.node("OneHot", [chosen, d.constant(np.int64(4)), d.constant(np.array([0, 1], np.float32))]))


@family
def compress(d):
    axis = d.pick([None, 0, 1, -1])
    keep = d.operand(d.rng.random(12 if axis is None else 3 if axis == 0 else 4) < 0.6)
    d.output(d.node("Compress", [d.input([3, 4]), keep], axis=axis))


@family
def unique(d):
    x = d.input([8], lambda s: np.round(d.floats(s)))
    made = d.node("Unique", [x], 4, sorted=d.pick([None, 0, 1]))
    d.output(made[0])
    d.output(*made[1:], kind=INT64)


@family
def through_integers(d):
    """Floats whose effect passes through what compares and selects."""
    x = d.input([d.some_dim(3), 4])
    y = d.node("MatMul", [x, d.constant(d.floats([4, 5]))])
    best = d.node("ArgMax", [y], axis=-1, keepdims=0)
    table = d.constant(d.floats([5, 3]))
    d.output(d.node("Gather", [table, best]))
    mask = d.node("Greater", [y, d.constant(np.float32(0.1))])
    d.output(mask, kind=BOOL)
    d.output(d.node("Mul", [y, d.node("Cast", [mask], to=FLOAT)]))
    d.output(d.node("Cast", [y], to=INT32), kind=INT32)
