"""If, Loop, Scan and local functions."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ..draft import BOOL, FLOAT, INT64
from .registry import family


def value(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def weight(d, name, *shape):
    return numpy_helper.from_array(d.floats(shape), name)


def branch(d, name, x, n):
    """A branch that multiplies or adds what it captures."""
    if d.chance():
        nodes = [helper.make_node("MatMul", [x, f"{name}_w"], [f"{name}_y"], name=f"{name}_matmul")]
        held = [weight(d, f"{name}_w", n, n)]
    else:
        op = d.pick(["Add", "Sub", "Max"])
        nodes = [helper.make_node(op, [x, f"{name}_w"], [f"{name}_y"], name=f"{name}_{op}")]
        held = [weight(d, f"{name}_w", n)]
    return helper.make_graph(nodes, name, [], [value(f"{name}_y")], held)


@family
def if_constant(d):
    n = d.int(1, 4)
    x = d.node("Relu", [d.input([d.some_dim(2), n])])
    condition = d.constant(np.bool_(d.chance()))
    for _ in range(d.int(0, 2)):
        condition = d.node("Not", [condition])
    y = d.node("If", [condition], then_branch=branch(d, "then", x, n), else_branch=branch(d, "else", x, n))
    d.output(d.node("Add", [y, x]))


@family
def if_of_a_shape(d):
    """A condition that the sizes of a batch decide, as in an exporter's squeeze."""
    x = d.input([d.dim(1, 2, 1), 3])
    size = d.node("Gather", [d.node("Shape", [x]), d.constant(np.int64(0))])
    condition = d.node("Equal", [size, d.constant(np.int64(1))])
    y = d.node("If", [condition], then_branch=branch(d, "then", x, 3), else_branch=branch(d, "else", x, 3))
    d.output(y)


@family
def if_of_a_fixed_length(d):
    """The same where the file fixes the length."""
    length = d.int(1, 2)
    x = d.node("Relu", [d.input([d.some_dim(2), length, 3])])
    size = d.node("Gather", [d.node("Shape", [x]), d.constant(np.int64(d.pick([1, -2])))])
    condition = d.node(d.pick(["Equal", "Less", "GreaterOrEqual"]), [size, d.constant(np.int64(1))])
    if d.chance():
        condition = d.node("Not", [d.node("Cast", [d.node("Cast", [condition], to=7)], to=9)])
    y = d.node("If", [condition], then_branch=branch(d, "then", x, 3), else_branch=branch(d, "else", x, 3))
    d.output(y)


@family
def if_given(d):
    x = d.input([2, 3])
    condition = d.input([], lambda s: np.bool_(d.chance()), BOOL)
    d.output(
        d.node("If", [condition], then_branch=branch(d, "then", x, 3), else_branch=branch(d, "else", x, 3))
    )


@family
def loop(d):
    n, trips = d.int(1, 3), d.int(0, 4)
    nodes = [
        helper.make_node("MatMul", ["state", "loop_w"], ["product"], name="loop_matmul"),
        helper.make_node("Tanh", ["product"], ["next"], name="loop_tanh"),
        helper.make_node("Identity", ["go_on"], ["still"], name="loop_still"),
        helper.make_node("Identity", ["next"], ["seen"], name="loop_seen"),
    ]
    held = [weight(d, "loop_w", n, n)]
    body = helper.make_graph(
        nodes,
        "body",
        [value("step", INT64, []), value("go_on", BOOL, []), value("state")],
        [value("still", BOOL), value("next"), value("seen")],
        held,
    )
    trip = d.operand(np.int64(trips))
    last, all_of_them = d.node("Loop", [trip, d.constant(np.bool_(True)), d.input([2, n])], 2, body=body)
    d.output(last, all_of_them)


@family
def loop_of_integers(d):
    """A counter and the iteration's number are small; what doubles is not for long."""
    op, step = d.pick([("Add", 1), ("Sub", 3), ("Add", 2), ("Mul", 3), ("Add", 2**20)])
    kind = d.pick([INT64, INT64, TensorProto.INT32])
    constant = numpy_helper.from_array(np.array(step, helper.tensor_dtype_to_np_dtype(kind)), "loop_step")
    nodes = [
        helper.make_node(op, ["count", "loop_step"], ["more"], name="loop_count"),
        helper.make_node("Mul", ["step", "two"], ["double"], name="loop_double"),
        helper.make_node("Cast", ["more"], ["seen"], to=FLOAT, name="loop_seen"),
        helper.make_node("Cast", ["double"], ["doubled"], to=FLOAT, name="loop_doubled"),
        helper.make_node("Add", ["seen", "doubled"], ["sum"], name="loop_sum"),
        helper.make_node("Identity", ["go_on"], ["still"], name="loop_still"),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [value("step", INT64, []), value("go_on", BOOL, []), value("count", kind, [])],
        [value("still", BOOL), value("more", kind, []), value("sum")],
        [constant, numpy_helper.from_array(np.int64(2), "two")],
    )
    first = d.constant(np.array(d.int(1, 9), helper.tensor_dtype_to_np_dtype(kind)))
    trips = d.constant(np.int64(d.pick([3, 7, 40])))
    last, sums = d.node("Loop", [trips, d.constant(np.bool_(True)), first], 2, body=body)
    d.output(last, kind=kind)
    d.output(d.node("Mul", [sums, d.input([1])]))


@family
def loop_until(d):
    nodes = [
        helper.make_node("Add", ["state", "one"], ["next"], name="loop_add"),
        helper.make_node("ReduceSum", ["next"], ["sum"], keepdims=0, name="loop_sum"),
        helper.make_node("Less", ["sum", "limit"], ["still"], name="loop_less"),
    ]
    held = [
        numpy_helper.from_array(np.float32(1), "one"),
        numpy_helper.from_array(np.float32(d.int(1, 20)), "limit"),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [value("step", INT64, []), value("go_on", BOOL, []), value("state")],
        [value("still", BOOL), value("next")],
        held,
    )
    d.output(d.node("Loop", [d.constant(np.int64(9)), d.constant(np.bool_(True)), d.input([3])], body=body))


@family
def scan(d):
    nodes = [
        helper.make_node("Add", ["sum_in", "one_in"], ["sum_out"], name="scan_add"),
        helper.make_node("Mul", ["sum_out", "scan_w"], ["one_out"], name="scan_mul"),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [value("sum_in", FLOAT, [2]), value("one_in", FLOAT, [2])],
        [value("sum_out", FLOAT, [2]), value("one_out", FLOAT, [2])],
        [weight(d, "scan_w", 2)],
    )
    made = d.node(
        "Scan",
        [d.input([2]), d.input([d.some_dim(3), 2])],
        2,
        body=body,
        num_scan_inputs=1,
        scan_input_directions=d.pick([None, [1]]),
        scan_output_directions=d.pick([None, [1]]),
    )
    d.output(*made)


def function(d, name, nodes, inputs, outputs, attributes=(), domain="drafted"):
    made = helper.make_function(
        domain, name, inputs, outputs, nodes, [helper.make_opsetid("", d.opset)], attributes=attributes
    )
    d.functions.append(made)


def with_reference(node, attribute, kind):
    """The node with an attribute that the function's caller gives."""
    reference = node.attribute.add()
    reference.name, reference.ref_attr_name, reference.type = attribute, attribute, kind
    return node


@family
def function_of_a_linear(d):
    k, n = d.ints(2, 1, 4)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="inner_matmul"),
        helper.make_node("Add", ["product", "b"], ["y"], name="inner_add"),
    ]
    function(d, "Dense", nodes, ["x", "w", "b"], ["y"])
    x = d.input([d.some_dim(2), k])
    for size, to in ((k, n), (n, k)):
        x = d.node(
            "Dense", [x, d.constant(d.floats([size, to])), d.constant(d.floats([to]))], domain="drafted"
        )
        x = d.node("Relu", [x])
    d.output(x)


@family
def function_with_attributes(d):
    leaky = with_reference(helper.make_node("LeakyRelu", ["x"], ["h"]), "alpha", 1)
    soft = with_reference(helper.make_node("Softmax", ["h"], ["y"]), "axis", 2)
    function(d, "Both", [leaky, soft], ["x"], ["y"], ["alpha", "axis"])
    x = d.input([d.some_dim(2), 3, 2])
    d.output(d.node("Both", [x], domain="drafted", alpha=d.pick([0.1, 0.4]), axis=d.pick([0, 1, -1])))


@family
def function_in_a_function(d):
    function(d, "Square", [helper.make_node("Mul", ["v", "v"], ["out"])], ["v"], ["out"])
    nodes = [
        helper.make_node("Square", ["v"], ["h"], domain="drafted"),
        helper.make_node("Add", ["h", "v"], ["out"]),
    ]
    function(d, "SquareAndAdd", nodes, ["v"], ["out"])
    d.functions[-1].opset_import.append(helper.make_opsetid("drafted", 1))
    x = d.input([2, d.some_dim(3)])
    y = d.node("SquareAndAdd", [d.node("SquareAndAdd", [x], domain="drafted")], domain="drafted")
    d.output(y)


@family
def function_with_optional_input(d):
    nodes = [helper.make_node("Clip", ["x", "low", "high"], ["y"])]
    function(d, "Bounded", nodes, ["x", "low", "high"], ["y"])
    low = d.constant(np.float32(-0.5)) if d.chance() else ""
    inputs = [d.input([2, 3]), low] + ([d.constant(np.float32(0.7))] if d.chance() else [])
    while not inputs[-1]:
        inputs.pop()
    d.output(d.node("Bounded", inputs, domain="drafted"))


@family
def sequence(d):
    x = d.input([2, 4])
    kept = d.pick([0, 1])
    parts = d.node("SplitToSequence", [x], axis=1, keepdims=kept)
    if kept and d.chance():
        d.output(d.node("ConcatFromSequence", [parts], axis=1, new_axis=0))
    else:
        d.output(d.node("SequenceAt", [parts, d.constant(np.int64(d.int(-4, 3)))]))
