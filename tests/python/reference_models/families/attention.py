"""Attention and RotaryEmbedding as operators of opset 23, and spelled out."""

import numpy as np

from ..draft import BOOL
from .registry import family


@family
def attention(d):
    d.opset = 23
    heads, kv_heads = d.pick([(1, 1), (2, 2), (4, 2), (4, 1)])
    size, value_size = d.pick([(2, 2), (4, 4), (4, 2)])
    batch, queries, keys = d.int(1, 2), d.int(1, 4), d.int(1, 5)
    flat = d.chance(0.4)
    if flat:
        shapes = [
            [batch, queries, heads * size],
            [batch, keys, kv_heads * size],
            [batch, keys, kv_heads * value_size],
        ]
        attributes = {"q_num_heads": heads, "kv_num_heads": kv_heads}
    else:
        shapes = [
            [batch, heads, queries, size],
            [batch, kv_heads, keys, size],
            [batch, kv_heads, keys, value_size],
        ]
        attributes = {}
    inputs = [d.input(shape) for shape in shapes]
    if d.chance():
        shape = d.pick([[queries, keys], [1, 1, queries, keys], [batch, heads, queries, keys]])
        if d.chance():
            inputs.append(d.operand(d.floats(shape)))
        else:
            keep = d.rng.random(shape) < 0.6
            keep[..., 0] = True
            inputs.append(d.operand(keep))
    d.output(
        d.node(
            "Attention",
            inputs,
            is_causal=d.pick([None, 0, 1]),
            scale=d.pick([None, 0.3]),
            softcap=d.pick([None, None, 2.0]),
            **attributes,
        )
    )


@family
def attention_with_a_past(d):
    d.opset = 23
    batch, heads, size, past, new = 1, 2, 4, d.int(1, 3), d.int(1, 3)
    q, k, v = (d.input([batch, heads, new, size]) for _ in range(3))
    past_k, past_v = (d.input([batch, heads, past, size]) for _ in range(2))
    made = d.node("Attention", [q, k, v, "", past_k, past_v], 3, is_causal=d.pick([None, 0]))
    d.output(*made)


@family
def rotary_embedding(d):
    d.opset = 23
    batch, heads, length, size = d.int(1, 2), d.int(1, 3), d.int(1, 4), d.pick([4, 8])
    rotary = d.pick([None, 0, size // 2])
    half = (rotary or size) // 2
    flat = d.chance(0.4)
    x = d.input([batch, length, heads * size] if flat else [batch, heads, length, size])
    if d.chance():
        angles, positions = d.floats([6, half]), [d.given(d.rng.integers(0, 6, [batch, length]))]
    else:
        angles, positions = d.floats([batch, length, half]), []
    caches = [d.constant(np.cos(angles)), d.constant(np.sin(angles))]
    d.output(
        d.node(
            "RotaryEmbedding",
            [x, *caches, *positions],
            interleaved=d.pick([None, 0, 1]),
            rotary_embedding_dim=rotary,
            num_heads=heads if flat else None,
        )
    )


@family
def attention_spelled_out(d):
    """Projections, heads split by Reshape with the batch's own sizes, a causal mask, heads merged."""
    heads, size, length = 2, 3, d.dim(3, 5, 1)
    width = heads * size
    x = d.input([d.some_dim(2), length, width])
    split = d.constant(np.array([0, 0, heads, size], np.int64))
    q, k, v = (
        d.node(
            "Transpose",
            [d.node("Reshape", [d.node("MatMul", [x, d.constant(d.floats([width, width], 0.4))]), split])],
            perm=perm,
        )
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    )
    scores = d.node("Mul", [d.node("MatMul", [q, k]), d.constant(np.float32(size**-0.5))])
    count = d.node("Slice", [d.node("Shape", [x]), *(d.constant(np.array([i], np.int64)) for i in (1, 2))])
    square = d.node("Concat", [count, count], axis=0)
    mask = d.node("Trilu", [d.node("ConstantOfShape", [square])], upper=0)
    ones = d.node("Add", [mask, d.constant(np.float32(1))])
    allowed = d.node("Cast", [d.node("Trilu", [ones], upper=0)], to=BOOL)
    d.opset = 17
    floor = d.constant(np.float32(d.pick([-np.inf, -1e9, -1e4, np.finfo(np.float32).min])))
    weights = d.node("Softmax", [d.node("Where", [allowed, scores, floor])], axis=-1)
    y = d.node("Transpose", [d.node("MatMul", [weights, v])], perm=[0, 2, 1, 3])
    y = d.node("Reshape", [y, d.constant(np.array([0, 0, -1], np.int64))])
    d.output(d.node("MatMul", [y, d.constant(d.floats([width, 4]))]))


@family
def relative_buckets(d):
    """The bias of T5, MPNet and their kind: the logarithm of 0 becomes an integer that a Where leaves."""
    d.opset = d.pick([14, 17, 18, 20])
    length, heads, exact = d.dim(5, 9, 1), d.int(1, 2), d.pick([2, 4])
    integer = lambda value: d.constant(np.int64(value))
    x = d.input([1, length, 4])
    count = d.node("Gather", [d.node("Shape", [x]), integer(1)])
    places = d.node("Range", [integer(0), count, integer(1)])
    rows = d.node("Unsqueeze", [places, d.constant(np.array([1], np.int64))])
    apart = d.node("Abs", [d.node("Sub", [places, rows])])
    part = d.node("Div", [d.node("Cast", [apart], to=1), d.constant(np.float32(exact))])
    steps = d.node("Mul", [d.node("Log", [part]), d.constant(np.float32(exact / np.log(8)))])
    kind, of_kind = d.pick([(6, np.int32), (7, np.int64)])
    far = d.node("Add", [d.node("Cast", [steps], to=kind), d.constant(of_kind(exact))])
    far = d.node("Min", [d.node("Cast", [far], to=7), integer(2 * exact - 1)])
    bucket = d.node("Where", [d.node("Less", [apart, integer(exact)]), apart, far])
    bias = d.node("Gather", [d.constant(d.floats([2 * exact, heads])), bucket])
    d.output(d.node("MatMul", [d.node("Transpose", [bias], perm=[2, 0, 1]), x]))
