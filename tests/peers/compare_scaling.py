"""Time of a job against batches, layers and workers, drawn as target/scaling.svg; onnxruntime's quantize_static
beside it where it has the same thing to vary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from .cluster import Cluster
from .compare_static import NO_REPLACEMENT, quantized
from .context import Context
from .places import Model
from .report import Row
from .timing import once, three_digits

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402 - the kind of picture is chosen first

WIDTH, TOKENS = 384, 128
BATCHES, LAYERS, WORKERS = (2, 4, 8, 16), (2, 4, 8, 12), (1, 2)
MIDDLE = 6
"""Layers where batches vary; batches where layers or workers do."""


@dataclass(frozen=True)
class Curve:
    """Seconds by what varies."""

    varies: str
    at: tuple[int, ...]
    ours: list[float]
    peer: list[float]


def compare(context: Context) -> list[Row]:
    def model(layers: int, batches: int) -> Model:
        return encoder(context.scratch / f"{layers}_{batches}", layers, batches)

    by_batches = [model(MIDDLE, batches) for batches in BATCHES]
    by_layers = [model(layers, MIDDLE) for layers in LAYERS]

    def ours(of: Model, workers: int, tasks: int) -> float:
        with Cluster(context.places, context.scratch, workers=workers, tasks=tasks) as cluster:
            return cluster.quantize(of, of.calibration_dir, *NO_REPLACEMENT).seconds

    def one(of: Model) -> float:
        return ours(of, 1, context.threads)

    def peer(of: Model) -> float:
        return once(lambda: quantized(of, context))

    largest = by_layers[-1]
    curves = [
        Curve("batches", BATCHES, *timed(by_batches, one, peer)),
        Curve("layers", LAYERS, *timed(by_layers, one, peer)),
        Curve("workers of one thread", WORKERS, [ours(largest, workers, 1) for workers in WORKERS], []),
    ]
    draw(curves, context.places.target / "scaling.svg")
    return [row for curve in curves for row in rows(curve)]


def timed(models: list[Model], *sides: Callable[[Model], float]) -> tuple[list[float], list[float]]:
    """In turns, model by model."""
    seconds = [[side(model) for side in sides] for model in models]
    ours, peer = zip(*seconds, strict=True)
    return list(ours), list(peer)


def rows(curve: Curve) -> list[Row]:
    def row(index: int) -> Row:
        theirs = f"{three_digits(curve.peer[index])} s" if curve.peer else "–"
        ratio = f"{curve.peer[index] / curve.ours[index]:.2f}×" if curve.peer else "–"
        work = f"encoder, {curve.at[index]} {curve.varies}"
        mine = f"{three_digits(curve.ours[index])} s"
        return Row(work, "onnxruntime quantize_static + SQNR", theirs, mine, ratio, "–", None, "one run")

    return [row(index) for index in range(len(curve.at))]


def draw(curves: list[Curve], path: Path) -> None:
    top = 1.08 * max(second for curve in curves for second in [*curve.ours, *curve.peer])
    figure, axes = pyplot.subplots(1, len(curves), figsize=(10, 3.2), sharey=True)
    for axis, curve in zip(axes, curves, strict=True):
        axis.plot(curve.at, curve.ours, "o-", label="dual16")
        if curve.peer:
            axis.plot(curve.at, curve.peer, "s--", color="gray", label="onnxruntime quantize_static")
        axis.set_xlabel(curve.varies)
        axis.set_xticks(curve.at)
        axis.set_ylim(0, top)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    # No date: the same figures give the same file.
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def encoder(folder: Path, layers: int, batches: int) -> Model:
    """Residual blocks of a LayerNorm, two Linears and a ReLU, from a fixed seed."""
    rng = np.random.default_rng(layers)
    nodes, constants, x = [], [], "x"

    def constant(name: str, values: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    for layer in range(layers):
        of = f"layer{layer}"
        scale = constant(f"{of}.norm.weight", 1 + 0.1 * rng.standard_normal(WIDTH))
        shift = constant(f"{of}.norm.bias", 0.1 * rng.standard_normal(WIDTH))
        up = constant(f"{of}.up.weight", rng.standard_normal((WIDTH, 4 * WIDTH)) / WIDTH**0.5)
        down = constant(f"{of}.down.weight", rng.standard_normal((4 * WIDTH, WIDTH)) / WIDTH**0.5 / 2)
        nodes += [
            helper.make_node("LayerNormalization", [x, scale, shift], [f"{of}.norm"]),
            helper.make_node("MatMul", [f"{of}.norm", up], [f"{of}.up"]),
            helper.make_node("Relu", [f"{of}.up"], [f"{of}.relu"]),
            helper.make_node("MatMul", [f"{of}.relu", down], [f"{of}.down"]),
            helper.make_node("Add", [x, f"{of}.down"], [f"{of}.sum"]),
        ]
        x = f"{of}.sum"
    shape = [1, TOKENS, WIDTH]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", x))
    graph = helper.make_graph(nodes, "encoder", [given], [made], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "calib").mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    for batch in range(batches):
        values = rng.standard_normal(shape).astype(np.float32)
        save_file({"x": values}, folder / "calib" / f"{batch:03}.safetensors")
    return Model(folder.name, folder)
