"""modules.py in PyTorch: `python -m handoff.pytorch FOLDER`. The article's model with the modules that stand in
must be what mended.onnx is in onnxruntime, and so as near to the model as that is."""

import importlib.util
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from torch import nn

from .case import about, batches, distance, run

CLOSE = 1e-5


class SmallModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear1 = nn.Linear(256, 256)
        self.layernorm = nn.LayerNorm(256)
        self.relu = nn.ReLU()
        self.linear2 = nn.Linear(256, 60)
        self.linear3 = nn.Linear(60, 60)

    def forward(self, x):
        return self.linear3(self.linear2(self.relu(self.layernorm(self.linear1(x)))))


class Normalized(nn.Module):
    """A LayerNorm and a Linear, as the tests of mending make them."""

    def __init__(self, tensors):
        super().__init__()
        self.norm = nn.LayerNorm(len(tensors["gamma"]), bias=False)
        self.fc = nn.Linear(*tensors["w"].shape, bias=False)
        with torch.no_grad():
            self.norm.weight.copy_(tensors["gamma"])
            self.fc.weight.copy_(tensors["w"].t())

    def forward(self, x):
        return self.fc(self.norm(x))


def main(folder):
    wrong, checked = [], 0
    for stated in sorted(folder.glob("*/case.json")):
        case = stated.parent
        model = build(case)
        if model is None:
            continue
        checked += 1
        modules = load(case / "handoff/modules.py")
        swapped = modules.apply(model, case / "handoff")
        plan = json.loads((case / "handoff/modules.json").read_text())
        present = dict(model.named_modules())
        inside = [name for name in plan["quantized"] if any(name.startswith(f"{one}.") for one in swapped)]
        wrong += [f"{case.name}: there is no '{name}'" for name in inside if name not in present]
        given = batches(case)
        reference = run(case / "handoff/mended.onnx", given)
        source = run(case / "model.onnx", given)
        for batch, mended, plain in zip(given, reference, source, strict=True):
            (x,), (name,) = batch.values(), mended
            with torch.no_grad():
                y = model(torch.from_numpy(x)).numpy()
            apart, from_model = distance(y, mended[name]), distance(y, plain[name])
            print(f"{case.name}: {swapped} {apart:.1e} from mended.onnx, {from_model:.1e} from the model")
            if not apart <= CLOSE or not from_model <= about(case)["tolerance"] + CLOSE:
                wrong.append(f"{case.name}: {apart:.1e} from mended.onnx, {from_model:.1e} from the model")
        if not swapped and about(case)["swapped"]:
            wrong.append(f"{case.name}: no module was swapped")
    if not checked:
        wrong.append("there is no case")
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)


def build(case):
    """The model of a case in PyTorch; None where it is none of these."""
    state = case / "float.safetensors"
    if state.exists():
        model = SmallModel()
        model.load_state_dict(load_file(state))
        return model
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(case / "model.onnx").graph
    tensors = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    return Normalized(tensors) if set(tensors) == {"gamma", "w"} else None


def load(path):
    spec = importlib.util.spec_from_file_location("modules", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
