"""A case on disk: the model, batches, the outputs expected of each, and how they are compared."""

import json

import ml_dtypes  # noqa: F401  (numpy learns bfloat16 and the small types from it)
import numpy as np
import onnx
import onnxruntime as ort
from safetensors.numpy import save_file

ort.set_default_logger_severity(4)

RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}

# What a model that computes in the type may be off by, since float execution computes in f32:
# relative to the value, and relative to the largest one.
TOLERANCES = {onnx.TensorProto.BFLOAT16: (2e-2, 2e-2), onnx.TensorProto.FLOAT16: (5e-3, 2e-3)}
TOLERANCE = (1e-3, 1e-4)

PLAIN = {"float32", "float16", "bfloat16", "float64", "bool"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def session(model):
    """The model in onnxruntime as it is written, nothing optimized."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def write(folder, model, batches, expected):
    """`batches` and `expected` hold a dictionary of arrays for each batch."""
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    for index, (batch, outputs) in enumerate(zip(batches, expected, strict=True)):
        save_file(tensors(batch), folder / f"batch_{index}.safetensors")
        save_file(tensors(outputs, widen=True), folder / f"expected_{index}.safetensors")
    rtol, atol = tolerance(model)
    about = {
        "name": f"{folder.parent.name}/{folder.name}",
        "random": is_random(model),
        "names": names(model),
        "batches": len(batches),
        "rtol": rtol,
        "atol": atol,
    }
    (folder / "case.json").write_text(json.dumps(about, indent=1))


def tensors(values, widen=False):
    """The arrays a safetensors file can hold; `widen` turns 4- and 8-bit types into wider ones."""
    held = {}
    for name, value in values.items():
        if not isinstance(value, (np.ndarray, np.generic)):
            continue
        array = np.asarray(value)
        kind = array.dtype.name
        if widen and kind not in PLAIN and kind.startswith("float"):
            array = array.astype(np.float32)
        elif widen and kind in ("int4", "uint4", "int2", "uint2"):
            array = array.astype(np.int8)
        if array.dtype.name in PLAIN:
            held[name] = np.array(array, order="C", copy=True)
    return held


def all_nodes(model):
    """Nodes of the graph, its subgraphs and its functions."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else attribute.graphs
            waiting.extend(inner for graph in graphs for inner in graph.node)


def names(model):
    """What a refusal may name: nodes (without a name, by their output), operators, inputs, constants."""
    found = {value.name for value in [*model.graph.input, *model.graph.initializer]}
    for node in all_nodes(model):
        found.update([node.op_type, node.name or "node_" + node.output[0]])
        if node.op_type == "Constant":
            found.add(node.output[0])
    return sorted(found)


def is_random(model):
    """Whether an operator draws numbers; a Dropout does where it is told that it trains."""
    return any(
        node.op_type in RANDOM or node.op_type == "Dropout" and any(node.input[2:])
        for node in all_nodes(model)
    )


def tolerance(model):
    kinds = {value.type.tensor_type.elem_type for value in [*model.graph.input, *model.graph.output]}
    for node in all_nodes(model):
        kinds.update(
            attribute.i for attribute in node.attribute if node.op_type == "Cast" and attribute.name == "to"
        )
    return next((TOLERANCES[kind] for kind in TOLERANCES if kind in kinds), TOLERANCE)
