"""The operator tests of the onnx package, each beside a MatMul of its own so that it has a Linear."""

import os
import random
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

from . import case

WEIGHT_SEED = 1


def write(folder, sample, seed, only):
    warnings.filterwarnings("ignore")
    np.random.seed(seed)
    cases = sorted(load_model_tests(kind="node"), key=lambda one: one.name)
    if only:
        cases = [one for one in cases if one.name in only]
    elif 0 < sample < len(cases):
        cases = random.Random(seed).sample(cases, sample)
    left_out = []
    for one in cases:
        try:
            write_case(folder / one.name, one)
        except ValueError as error:
            left_out.append((one.name, error))
    return len(cases) - len(left_out), left_out


def write_case(folder, one):
    model, data_sets = loaded(one)
    model = beside_a_linear(model)
    batches, own = [], []
    for inputs, outputs in data_sets:
        batch = dict(zip((value.name for value in model.graph.input), inputs, strict=False))
        batch["beside_x"] = np.random.default_rng(WEIGHT_SEED).standard_normal((2, 8)).astype(np.float32)
        batches.append(batch)
        own.append(dict(zip((value.name for value in model.graph.output), outputs, strict=False)))
    case.write(folder, model, batches, [judged(model, *pair) for pair in zip(batches, own, strict=True)])


def loaded(one):
    """The model and, for each set of data, inputs and outputs."""
    if one.data_sets:
        return one.model, one.data_sets
    model = onnx.load(os.path.join(one.model_dir, "model.onnx"))
    folder = os.path.join(one.model_dir, "test_data_set_0")
    return model, [(values(folder, "input", model.graph.input), values(folder, "output", model.graph.output))]


def values(folder, prefix, infos):
    read = []
    for index, info in enumerate(infos):
        if info.type.WhichOneof("value") != "tensor_type":
            raise ValueError(f"{info.name} is no tensor")
        with open(os.path.join(folder, f"{prefix}_{index}.pb"), "rb") as file:
            read.append(numpy_helper.to_array(TensorProto.FromString(file.read())))
    return read


def beside_a_linear(model):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    weight = np.random.default_rng(WEIGHT_SEED).standard_normal((8, 4)).astype(np.float32)
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("beside_x", TensorProto.FLOAT, [2, 8]))
    graph.output.append(helper.make_tensor_value_info("beside_y", TensorProto.FLOAT, [2, 4]))
    graph.initializer.append(numpy_helper.from_array(weight, "beside_w"))
    graph.node.append(helper.make_node("MatMul", ["beside_x", "beside_w"], ["beside_y"], name="beside"))
    if not any(imported.domain in ("", "ai.onnx") for imported in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 18))
    return model


def judged(model, batch, own):
    """What onnxruntime gives, and the test's own data where it cannot run or disagrees with it."""
    outputs = [value.name for value in model.graph.output]
    try:
        found = dict(zip(outputs, case.session(model).run(outputs, batch), strict=True))
    except Exception:  # onnxruntime raises many kinds, all of which mean that it cannot
        return own
    agreed = {name: found[name] for name in outputs if name not in own or close(found[name], own[name])}
    return {**own, **agreed}


def close(found, own):
    if not all(isinstance(value, (np.ndarray, np.generic)) for value in (found, own)):
        return False
    if found.shape != own.shape or found.dtype.kind not in "fiub":
        return False
    return np.allclose(found.astype(np.float64), own.astype(np.float64), rtol=1e-3, atol=1e-5, equal_nan=True)
