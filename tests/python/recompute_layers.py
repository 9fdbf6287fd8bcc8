"""Runs the example of docs/formats.md over finished jobs of one layer, "fc".

usage: recompute_layers.py FORMATS.md WEIGHTS ACTIVATIONS OUT ...

Fails where the SQNR of what it computes is not the one in result.json to 0.01 dB.
"""
import json
import re
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

formats, weights, activations, *outs = map(Path, sys.argv[1:])
example = {}
exec(re.search(r"```python\n(.*?)```", formats.read_text(), re.S).group(1), example)
float_layer = load_file(weights)
batches = [load_file(path)["fc"] for path in sorted(activations.glob("*.safetensors"))]
for out in outs:
    [layer] = json.loads((out / "result.json").read_text())["layers"]
    way = layer["effective"]
    tensors = load_file(out / "converted.safetensors")
    tensors = {name.removeprefix("fc."): tensor for name, tensor in tensors.items()}
    power = error = 0.0
    for x in batches:
        reference = x.astype(np.float64) @ float_layer["fc.weight"].T.astype(np.float64) + float_layer["fc.bias"]
        y = example["linear"](x, tensors, way.split("+")[0])
        power += (reference**2).sum()
        error += ((y - reference) ** 2).sum()
    told = (layer["isolated"] | layer.get("fits", {}))[way]["sqnr_db"]
    computed = 10 * np.log10(power / error)
    print(f"{way}: {computed:.3f} dB computed, {told:.3f} dB in result.json")
    assert abs(computed - told) < 0.01, way
