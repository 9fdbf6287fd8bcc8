"""Two workers of one thread against one, on minilm."""

from __future__ import annotations

from .cluster import Cluster
from .compare_minilm import EVERY_WAY
from .context import Context, agree
from .report import Row, speed
from .timing import in_turns

TARGET = 1.8


def compare(context: Context) -> list[Row]:
    model = context.places.model("minilm")
    artifacts: list[bytes] = []

    def run(workers: int) -> float:
        with Cluster(context.places, context.scratch, workers=workers, tasks=1) as cluster:
            results = cluster.quantize(model, model.calibration_dir, *EVERY_WAY)
        artifacts.append((results.folder / "result.json").read_bytes())
        return results.seconds

    one, two = in_turns(context.job_rounds, lambda: run(1), lambda: run(2))
    agree(len(set(artifacts)) == 1, "result.json depends on the number of workers")
    work = "minilm, two workers of one thread"
    return [speed(work, "one worker of one thread", one, two, "result.json is the same to the byte", TARGET)]
