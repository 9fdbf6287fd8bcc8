"""GRU, LSTM and RNN with every attribute and optional input that ONNX gives them."""

import numpy as np

from .registry import family, family_of_each

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
OTHERS = ["Relu", "Sigmoid", "Tanh", "Softsign", "Softplus"]


@family_of_each(GATES)
def recurrent(d, op):
    direction = d.pick([None, "forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    size, hidden, batch, steps = d.int(1, 4), d.int(1, 4), d.int(1, 3), d.int(1, 5)
    gates = GATES[op]
    longer = d.dim(steps, steps + 2) if d.chance(0.3) else steps
    inputs = [
        d.input([longer, batch, size]),
        d.constant(d.floats([ways, gates * hidden, size], 0.6)),
        d.constant(d.floats([ways, gates * hidden, hidden], 0.6)),
        d.constant(d.floats([ways, 2 * gates * hidden], 0.6)) if d.chance(0.7) else "",
        d.operand(np.asarray(d.ints(batch, 1, steps), np.int32)) if d.chance(0.3) else "",
    ]
    for _ in range(2 if op == "LSTM" else 1):
        inputs.append(d.operand(d.floats([ways, batch, hidden])) if d.chance(0.4) else "")
    if op == "LSTM" and d.chance(0.3):
        inputs.append(d.constant(d.floats([ways, 3 * hidden], 0.6)))
    while not inputs[-1]:
        inputs.pop()
    attributes = {"clip": d.pick([None, None, None, 0.5]), "direction": direction}
    if d.chance(0.25):
        picked = [d.pick(OTHERS) for _ in DEFAULTS[op] * ways]
        # With two gates without a bound the state runs away, and onnxruntime's Softplus is infinite from 89 on.
        runs_away = sum(name in ("Relu", "Softplus") for name in picked) > 1
        bounded = ["Softsign" if runs_away and name == "Softplus" else name for name in picked]
        attributes["activations"] = bounded
    elif d.chance(0.2):
        attributes["activations"] = DEFAULTS[op] * ways
    if op == "GRU":
        attributes["linear_before_reset"] = d.pick([None, 0, 1])
    if op == "LSTM":
        attributes["input_forget"] = d.pick([None, None, 0])
    made = d.node(op, inputs, 3 if op == "LSTM" else 2, hidden_size=hidden, **attributes)
    d.output(*(made if d.chance() else made[:1] if d.chance() else made[1:]))


@family
def lstm_batch_first(d):
    """As the exporters write it: transposed in, squeezed and transposed out."""
    size, hidden = d.ints(2, 2, 4)
    x = d.node("Transpose", [d.input([2, d.dim(3, 5, 1), size])], perm=[1, 0, 2])
    w, r = d.constant(d.floats([1, 4 * hidden, size])), d.constant(d.floats([1, 4 * hidden, hidden]))
    y, last, _ = d.node("LSTM", [x, w, r], 3, hidden_size=hidden)
    y = d.node("Squeeze", [y, d.constant(np.array([1], np.int64))])
    y = d.node("Transpose", [y], perm=[1, 0, 2])
    d.output(d.node("MatMul", [y, d.constant(d.floats([hidden, 3]))]), last)
