"""Random small graphs. A case is named after its family and its seed, which make it again."""

import numpy as np

from . import case
from .draft import Draft
from .families import FAMILIES

# A draw that onnxruntime refuses is drawn again; the seed and the number of the try make a graph.
TRIES = 8
# They are small, and there are many families: more of them than of others.
TIMES = 4
# What "all of them" means where there is no end.
ALL = 4000


def write(folder, sample, seed, only):
    if only:
        named = [name.rsplit("_", 1) for name in only]
        wanted = [
            (family, int(number)) for family, number in named if family in FAMILIES and number.isdigit()
        ]
    else:
        families = list(FAMILIES)
        wanted = [(families[i % len(families)], seed * 100_000 + i) for i in range(TIMES * sample or ALL)]
    left_out = []
    for family, number in wanted:
        name = f"{family}_{number}"
        try:
            model, batches, expected = drawn(family, number)
        except ValueError as error:
            left_out.append((name, error))
            continue
        case.write(folder / name, model, batches, expected)
    return len(wanted) - len(left_out), left_out


def drawn(family, number):
    refusal = None
    for attempt in range(TRIES):
        draft = Draft(np.random.default_rng([number, attempt]))
        try:
            FAMILIES[family](draft)
            model, batches = draft.model(), draft.data()
            expected = judged(draft, model, batches)
        except Exception as error:  # onnxruntime raises many kinds, all of which mean that it refuses
            refusal = str(error)
            continue
        return model, batches, expected
    raise ValueError(f"refused {TRIES} times, at last: {refusal[:300]}")


def judged(draft, model, batches):
    names = [value.name for value in draft.outputs]
    if draft.judge:
        return [dict(zip(names, draft.judge(batch), strict=True)) for batch in batches]
    session = case.session(model)
    return [dict(zip(names, session.run(names, batch), strict=True)) for batch in batches]
