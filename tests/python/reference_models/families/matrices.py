"""Every form of a matrix product: MatMul, Gemm, Einsum, weights of any rank on either side."""

import numpy as np
from onnx import helper, numpy_helper

from .registry import family


@family
def gemm(d):
    m, k, n = d.ints(3, 1, 6)
    trans_a, trans_b = d.chance(), d.chance()
    rows = m if trans_a else d.dim(m, m + 1, 1)
    x = d.input([k, m] if trans_a else [rows, k])
    weight = d.constant(d.floats([n, k] if trans_b else [k, n]))
    inputs = [x, weight]
    if d.chance(0.7):
        shapes = [[n], [1, n], [1], [], [1, 1]] + ([[m, n], [m, 1]] if trans_a else [])
        inputs.append(d.operand(d.floats(d.pick(shapes))))
    d.output(
        d.node(
            "Gemm",
            inputs,
            alpha=d.pick([None, 0.5, -2.0]),
            beta=d.pick([None, 0.0, 0.25, -1.5]),
            transA=int(trans_a) if trans_a or d.chance() else None,
            transB=int(trans_b) if trans_b or d.chance() else None,
        )
    )


@family
def gemm_with_the_weight_left(d):
    m, k, n = d.ints(3, 1, 5)
    trans_a, trans_b = d.chance(), d.chance()
    weight = d.constant(d.floats([k, m] if trans_a else [m, k]))
    x = d.input([n, k] if trans_b else [k, n])
    inputs = [weight, x] + ([d.constant(d.floats(d.pick([[n], [m, 1], [m, n], []])))] if d.chance() else [])
    d.output(
        d.node(
            "Gemm",
            inputs,
            alpha=d.pick([None, 3.0]),
            beta=d.pick([None, 0.5]),
            transA=int(trans_a),
            transB=int(trans_b),
        )
    )


@family
def matmul_weight_right(d):
    k, n = d.int(1, 6), d.int(1, 6)
    weight = d.pick([[k, n], [1, k, n], [1, 1, k, n], [2, k, n], [k], [3, 1, k, n], [1, 1, 1, k, n]])
    lead = d.pick([[], [d.some_dim(3)], [2, d.some_dim(3)], [1, 2, d.some_dim(2)], [3, 2, 4]])
    if weight[:1] == [2] and len(weight) == 3 and len(lead) == 1:
        lead = [2, *lead]
    y = d.node("MatMul", [d.input([*lead, k]), d.constant(d.floats(weight))])
    if d.chance(0.4) and len(weight) > 1:
        y = d.node(
            "Add", d.pick([1, -1]) == 1 and [y, d.constant(d.floats([n]))] or [d.constant(d.floats([n])), y]
        )
    d.output(y)


@family
def matmul_weight_left(d):
    m, k = d.int(1, 6), d.int(1, 6)
    weight = d.pick([[m, k], [1, m, k], [2, m, k], [k], [3, 1, m, k]])
    x = d.pick([[k, d.some_dim(3)], [2, k, 3], [1, k, d.some_dim(2)], [3, 2, k, 4], [k]])
    d.output(d.node("MatMul", [d.constant(d.floats(weight)), d.input(x)]))


@family
def matmul_both_given(d):
    m, k, n = d.some_dim(3), d.int(1, 5), d.int(1, 4)
    a = d.pick([[m, k], [2, m, k], [2, 3, m, k], [k], [1, m, k]])
    b = d.pick([[k, n], [2, k, n], [3, k, n], [2, 3, k, n], [k], [1, k, n]])
    d.output(d.node("MatMul", [d.input(a), d.input(b)]))


@family
def matmul_of_a_transposed_weight(d):
    k, n = d.ints(2, 1, 5)
    weight = d.node("Transpose", [d.constant(d.floats([n, k]))], perm=d.pick([None, [1, 0]]))
    if d.chance(0.3):
        weight = d.node("Mul", [weight, d.constant(np.float32(0.5))])
    d.output(d.node("MatMul", [d.input([d.some_dim(2), k]), weight]))


@family
def matmul_of_a_moved_weight(d):
    """Weights of more dimensions than what they multiply, behind nodes that move their elements."""
    k, n = d.ints(2, 1, 6)
    left = d.chance()
    matrix = [n, k] if left else [k, n]
    ones = d.int(0, 2)
    whole = [1] * ones + matrix
    way = d.pick(["as it is", "Reshape", "Unsqueeze", "Transpose", "Cast", "Squeeze"])
    if way == "Reshape":
        weight = d.node("Reshape", [d.constant(d.floats([n * k])), d.constant(np.array([*whole[:-1], -1]))])
    elif way == "Unsqueeze" and ones:
        weight = d.node(
            "Unsqueeze", [d.constant(d.floats(matrix)), d.constant(np.arange(ones, dtype=np.int64))]
        )
    elif way == "Transpose":
        order = [*range(ones), ones + 1, ones]
        weight = d.node("Transpose", [d.constant(d.floats([*whole[:-2], *reversed(matrix)]))], perm=order)
    elif way == "Cast":
        weight = d.node("Cast", [d.constant(d.floats(whole).astype(np.float16))], to=1)
    elif way == "Squeeze":
        weight = d.node("Squeeze", [d.constant(d.floats([1, *whole])), d.constant(np.array([0]))])
    else:
        weight = d.constant(d.floats(whole))
    rows = d.some_dim(3)
    x = d.input(d.pick([[k, rows], [2, k, rows]]) if left else d.pick([[rows, k], [k], [2, rows, k]]))
    if d.chance(0.3):
        # Its rank is not known behind a Reshape to lengths that are computed.
        x = d.node("Reshape", [x, d.node("Shape", [d.node("Relu", [x])])])
    d.output(d.node("MatMul", [weight, x] if left else [x, weight]))


EQUATIONS = [
    ("bij,jk->bik", "bij", "jk"),
    ("ij,jk->ik", "ij", "jk"),
    ("ij,kj->ik", "ij", "kj"),
    ("bij,kj->bik", "bij", "kj"),
    ("ji,jk->ik", "ji", "jk"),
    ("bhij,bhjk->bhik", "bhij", "bhjk"),
    ("bhid,bhjd->bhij", "bhid", "bhjd"),
    ("bij,bjk->bik", "bij", "bjk"),
    ("ij,jk", "ij", "jk"),
    ("bij,jhk->bihk", "bij", "jhk"),
    ("i,ij->j", "i", "ij"),
    ("ij,j->i", "ij", "j"),
    ("bihk,jhk->bij", "bihk", "jhk"),
    ("ij,jk->ki", "ij", "jk"),
    ("i,j->ij", "i", "j"),
    ("...ij,jk->...ik", "aij", "jk"),
    (" b i j , j k -> b i k ", "bij", "jk"),
    ("bij,bij->b", "bij", "bij"),
]


@family
def einsum(d):
    equation, left, right = d.pick(EQUATIONS)
    size = {letter: d.int(1, 5) for letter in left + right}
    shape = lambda letters: [size[letter] for letter in letters]
    b = d.constant(d.floats(shape(right))) if d.chance(0.6) else d.input(shape(right))
    a = d.input(shape(left))
    d.output(d.node("Einsum", [a, b], equation=equation))


@family
def einsum_with_hidden_axes(d):
    equation, left, right = d.pick(
        [
            ("...h,hd->...d", "abh", "hd"),
            ("...h,hd->...d", "h", "hd"),
            ("b...h,hd->b...d", "bach", "hd"),
            ("...h,dh", "abh", "dh"),
            ("bi,ai", "bi", "ai"),
            ("bth,hd->bd", "bth", "hd"),
            ("...h,...hd->...d", "abh", "hd"),
            ("bth,bhd->btd", "bth", "bhd"),
            ("hd,...h->...d", "hd", "abh"),
        ]
    )
    size = {letter: d.int(1, 5) for letter in left + right}
    shape = lambda letters: [size[letter] for letter in letters]
    operands = [d.input(shape(left)), d.constant(d.floats(shape(right)))]
    if equation.startswith("hd"):
        operands = [d.constant(d.floats(shape(left))), d.input(shape(right))]
    d.output(d.node("Einsum", operands, equation=equation))


@family
def einsum_of_one(d):
    equation = d.pick(["ij->ji", "ijk->ik", "ii->i", "ij->", "bij->bji", "ij->j", "ii->"])
    n = d.int(2, 4)
    shape = [n if equation.startswith("ii") else d.int(1, 4) for _ in equation.split("->")[0]]
    d.output(d.node("Einsum", [d.input(shape)], equation=equation))


@family
def linear_then_batch_normalization(d):
    k, n = d.ints(2, 1, 6)
    # In three dimensions the channels are in the middle, where a MatMul has none.
    x = d.input(d.pick([[d.dim(3, 1, 5), k], [d.dim(3, 1, 5), k], [n, k], [2, n, k]]))
    three = len(d.fills[d.inputs[0].name][0]) == 3
    weight = d.constant(d.floats([k, n]))
    if d.chance(0.3) and not three:
        y = d.node("Gemm", [x, weight, d.constant(d.floats([n]))])
    else:
        y = d.node("MatMul", [x, weight])
        # A column is added to rows, not to channels.
        column = [[n, 1]] if len(d.dims) == 0 else []
        if d.chance(0.7):
            bias = d.constant(d.floats(d.pick([[n], [n], [1, n], [1], *column])))
            y = d.node("Add", d.pick([[y, bias], [bias, y]]))
    vectors = [d.constant(d.floats([n])) for _ in range(3)] + [
        d.constant(np.abs(d.floats([n])) + np.float32(0.1))
    ]
    d.output(d.node("BatchNormalization", [y, *vectors], epsilon=d.pick([None, 1e-2])))


@family
def sparse_weight(d):
    k, n, count = d.int(2, 6), d.int(2, 6), d.int(1, 4)
    places = np.sort(d.rng.choice(k * n, count, replace=False)).astype(np.int64)
    if d.chance():
        indices = numpy_helper.from_array(places)
    else:
        indices = numpy_helper.from_array(np.stack(np.unravel_index(places, (k, n)), 1).astype(np.int64))
    values = numpy_helper.from_array(d.floats([count]), "sparse_w")
    sparse = helper.make_sparse_tensor(values, indices, [k, n])
    if d.chance(0.6):
        d.sparse.append(sparse)
        weight = "sparse_w"
    else:
        weight = d.node("Constant", [], sparse_value=sparse)
    d.output(d.node("MatMul", [d.input([d.some_dim(3), k]), weight]))


@family
def det(d):
    n = d.int(1, 4)
    d.output(d.node("Det", [d.input([*d.pick([[], [3]]), n, n])]))
