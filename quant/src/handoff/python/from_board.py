"""Sets tensors that a board or the toolchain's simulator dumped beside those of model_qdq.onnx: where they
part, and by how many steps of their scale.

    python from_board.py --from-board DIR --inputs BATCH [--steps 1]

DIR holds an `.npy` for each tensor, by its name ('/' and ':' of a name may be '_'); floats, or integers at the
scale of the tensor. BATCH is a `.npz`, or a folder with an `.npy` for each input. Needs numpy, onnx and
onnxruntime. Exit code 0: no tensor is further apart than so many steps; 1: one is; 2: wrong usage."""

import argparse
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from-board", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--inputs", type=pathlib.Path, required=True, metavar="BATCH")
    parser.add_argument("--steps", type=float, default=1.0, help="how far tensors may be apart")
    parser.add_argument("--handoff", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent)
    given = parser.parse_args()
    rows = compare(given.from_board, inputs(given.inputs), given.handoff / "model_qdq.onnx")
    print(f"{'tensor':<48} {'scale':>12} {'max LSB':>10} {'mean LSB':>10} {'apart':>8}")
    for name, scale, worst, mean, share in rows:
        print(f"{name:<48} {scale:>12.6g} {worst:>10.2f} {mean:>10.3f} {share:>8.2%}")
    first = next((row for row in rows if not row[2] <= given.steps), None)
    if first is None:
        print(f"{len(rows)} tensors, none further apart than {given.steps:g} steps")
        return 0
    print(f"they part at '{first[0]}': {first[2]:.2f} steps of {first[1]:.6g}")
    return 1


def inputs(path):
    """The batch, by name of the input."""
    if path.is_dir():
        return {file.stem: np.load(file) for file in sorted(path.glob("*.npy"))}
    with np.load(path) as arrays:
        return dict(arrays)


def compare(board, batch, model_path):
    """A row for each tensor of the board, in the order in which the model makes them: name, scale, largest
    and mean distance in steps, share of elements more than half a step apart."""
    model = onnx.load(model_path, load_external_data=False)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    scales, order = {}, []
    for node in model.graph.node:
        order += node.output
        if node.op_type == "DequantizeLinear" and constants[node.input[1]].dims == []:
            scales[node.output[0]] = float(onnx.numpy_helper.to_array(constants[node.input[1]]))
    dumped = {file.stem: file for file in sorted(board.glob("*.npy"))}
    wanted = [(name, dumped[key]) for name in order for key in (plain(name, dumped),) if key]
    if not wanted:
        usage(f"{board}: no file has the name of a tensor of {model_path.name}; the first are {order[:3]}")
    known = {output.name for output in model.graph.output}
    for name, _ in wanted:
        if name not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = beside(model, model_path)
    missing = [value.name for value in session.get_inputs() if value.name not in batch]
    if missing:
        usage(f"the batch has no input '{missing[0]}'; it has {sorted(batch)}")
    names = [name for name, _ in wanted]
    ours = dict(zip(names, session.run(names, {v.name: batch[v.name] for v in session.get_inputs()}), strict=True))
    rows = []
    for name, path in wanted:
        theirs, own = np.load(path), ours[name]
        if theirs.shape != own.shape:
            usage(f"{path}: shape {list(theirs.shape)}; '{name}' has {list(own.shape)}")
        scale = scales.get(name)
        if theirs.dtype.kind in "iu" and own.dtype.kind == "f":
            if scale is None:
                usage(f"{path}: integers, but '{name}' has no scale; dump floats")
            theirs = theirs.astype(np.float64) * scale
        # A tensor that stays in high precision has no step; it is told in steps of its largest int16.
        step = scale or max(float(np.abs(own).max()) / 32767.5, 2.0**-23)
        apart = np.abs(theirs.astype(np.float64) - own.astype(np.float64)) / step
        rows.append((name, step, float(apart.max(initial=0)), float(apart.mean()), float((apart > 0.5).mean())))
    return rows


def plain(name, dumped):
    """The file of a tensor, under its name or as file systems take it."""
    for key in (name, name.replace("/", "_").replace(":", "_")):
        if key in dumped:
            return key
    return None


def beside(model, path):
    """A session of the changed model, whose tensors lie beside the file that it is of."""
    import tempfile

    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".onnx") as file:
        file.write(model.SerializeToString())
        file.flush()
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])


def usage(message):
    print(f"from_board: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
