"""Reductions over axes given as attribute, as input, as none."""

import numpy as np
from onnx import TensorProto, helper

from ..draft import INT64
from .registry import family, family_of_each

KINDS = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"]
OPS = ["Reduce" + kind for kind in KINDS]


def draw(d, op, x, rank):
    """A reduction in the form that its opset has, with or without axes."""
    axes = [a - rank if d.chance(0.4) else a for a in d.permuted(rank)[: d.int(0, rank)]]
    by_input = d.opset >= 18 or op == "ReduceSum"
    attributes = {"keepdims": d.pick([None, 0, 1])}
    if by_input and d.chance(0.4):
        attributes["noop_with_empty_axes"] = d.pick([0, 1])
    if not by_input:
        return d.node(op, [x], axes=axes or None, **attributes)
    given = [d.operand(np.array(axes, np.int64))] if axes or d.chance(0.4) else []
    return d.node(op, [x, *given], **attributes)


@family_of_each(OPS)
def reduce(d, op):
    rank = d.int(1, 4)
    d.opset = d.pick([13, 17, 18, 20])
    positive = op == "ReduceLogSum"
    sizes = [d.some_dim(d.int(1, 4)) for _ in range(rank)]
    x = d.input(sizes, lambda s: np.abs(d.floats(s)) + np.float32(0.1) if positive else d.floats(s))
    d.output(draw(d, op, x, rank))


@family
def reduce_integers(d):
    rank = d.int(1, 3)
    d.opset = d.pick([13, 18])
    op = "Reduce" + d.pick(["Sum", "Max", "Min", "Prod", "Mean"])
    x = d.input(d.ints(rank, 1, 4), lambda s: np.asarray(d.rng.integers(-5, 6, s), np.int64), INT64)
    d.output(draw(d, op, x, rank), kind=INT64)


@family
def reduce_nothing(d):
    """Over a dimension that is 0 in one batch."""
    d.opset = d.pick([18, 20])
    x = d.input([d.dim(2, 0), 3])
    op = d.pick(["ReduceSum", "ReduceProd", "ReduceL1", "ReduceSumSquare"])
    d.output(d.node(op, [x, d.constant(np.array([0], np.int64))], keepdims=d.pick([0, 1])))


@family
def reduce_narrow(d):
    """Extremes of booleans and bytes; those of nothing are the type's."""
    d.opset = 20
    kind = d.pick([TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8])
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    x = d.input([d.dim(2, 0), 3], lambda s: np.asarray(d.rng.integers(0, 2, s), dtype), kind)
    axes = d.constant(np.array([0], np.int64))
    op = d.pick(["ReduceMax", "ReduceMin"])
    d.output(d.node(op, [x, axes], keepdims=d.pick([0, 1])), kind=kind)
