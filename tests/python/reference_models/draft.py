"""A small graph in the making, drawn from one random number generator."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, INT32, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
OPSETS = [13, 14, 15, 16, 17, 18, 19, 20, 21]


class Draft:
    def __init__(self, rng):
        self.rng = rng
        self.opset = self.pick(OPSETS)
        self.nodes, self.initializers, self.sparse = [], [], []
        self.inputs, self.outputs, self.functions = [], [], []
        self.fills = {}
        self.dims = {}
        self.batches = 1
        # Gives the outputs of a batch where onnxruntime does not know the opset.
        self.judge = None

    # Drawing.

    def pick(self, choices):
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability=0.5):
        return bool(self.rng.random() < probability)

    def int(self, low, high):
        """Both ends included."""
        return int(self.rng.integers(low, high + 1))

    def ints(self, count, low, high):
        return [self.int(low, high) for _ in range(count)]

    def floats(self, shape, scale=1.0):
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def permuted(self, length):
        return [int(i) for i in self.rng.permutation(length)]

    def axis(self, rank):
        """An axis, half of the time from the end."""
        return self.int(-rank, rank - 1)

    # Values.

    def dim(self, *sizes):
        """A dynamic dimension: its size in each batch."""
        name = f"d{len(self.dims)}"
        self.dims[name] = sizes
        self.batches = max(self.batches, len(sizes))
        return name

    def some_dim(self, size):
        """A size, now and then dynamic."""
        return self.dim(size, size + 2, 1) if self.chance(0.3) else size

    def input(self, shape, fill=None, kind=FLOAT):
        """A graph input; dimensions are sizes or names that `dim` gave. `fill` makes it of a shape.

        Now and then a node lies between the input and whoever uses it.
        """
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        self.fills[name] = shape, fill or self.floats
        if kind == FLOAT and self.opset > 6 and self.chance(0.15):
            return self.node("Mul", [name, self.constant(np.float32(1))])
        return name

    def given(self, array):
        """A graph input of one value in every batch."""
        array = np.asarray(array)
        return self.input(array.shape, lambda _: array, helper.np_dtype_to_tensor_dtype(array.dtype))

    def constant(self, array):
        """An initializer or a Constant node."""
        name = f"c{len(self.initializers) + len(self.nodes)}"
        tensor = numpy_helper.from_array(np.asarray(array), name)
        if self.chance(0.7):
            self.initializers.append(tensor)
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], name=f"n_{name}", value=tensor))
        return name

    def operand(self, array):
        """A value that is constant for some and only known with the batch for others."""
        if self.chance(0.15):
            return self.given(array)
        if self.chance(0.15):
            return self.node("Identity", [self.constant(array)])
        return self.constant(array)

    def node(self, op, inputs, outputs=1, domain="", **attributes):
        """Appends a node, leaving out attributes that are None; the name of its output, or all names."""
        name = f"n{len(self.nodes)}_{op}"
        made = [f"{name}_{index}" for index in range(outputs)]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op, inputs, made, name=name, domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def output(self, *names, kind=FLOAT):
        self.outputs.extend(helper.make_tensor_value_info(name, kind, None) for name in names)

    # What comes of it.

    def model(self):
        graph = helper.make_graph(
            self.nodes,
            "drafted",
            self.inputs,
            self.outputs,
            self.initializers,
            sparse_initializer=self.sparse,
        )
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(domain, 1) for domain in {one.domain for one in self.functions}]
        ir = 8 if self.opset < 19 else 10 if self.opset < 23 else 11
        return helper.make_model(graph, opset_imports=imports, functions=self.functions, ir_version=ir)

    def data(self):
        """A dictionary of arrays for each batch."""
        return [
            {name: np.asarray(fill(self.sizes(shape, batch))) for name, (shape, fill) in self.fills.items()}
            for batch in range(self.batches)
        ]

    def sizes(self, shape, batch):
        """A shape as it is in a batch; dimensions with fewer sizes than there are batches start again."""
        sized = (self.dims[size] if isinstance(size, str) else [size] for size in shape)
        return [sizes[batch % len(sizes)] for sizes in sized]
