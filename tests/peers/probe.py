"""dual16's kernels behind a pipe: `tests/examples/peer_kernels`, one request a line."""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path
from types import TracebackType

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


class Probe:
    def __init__(self, program: Path, scratch: Path, budget: float) -> None:
        self.scratch = scratch
        self.budget = budget
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.communicate()

    def write_inputs(self, work: str, tensors: dict[str, Tensor | float]) -> None:
        arrays = {
            name: value.contiguous()
            if isinstance(value, Tensor)
            else torch.tensor([value], dtype=torch.float32)
            for name, value in tensors.items()
        }
        save_file(arrays, self.inputs(work))

    def measure(self, work: str, threads: int, *, inputs: str | None = None, scalar: bool = False) -> float:
        """Median seconds of a call over one round; `inputs` names another work's inputs."""
        request = {
            "work": work,
            "inputs": str(self.inputs(inputs or work)),
            "outputs": str(self.outputs(work)),
            "threads": threads,
            "scalar": scalar,
            "seconds": self.budget,
        }
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        if not reply:
            raise RuntimeError(f"the probe ended at {request}; its stderr says why")
        seconds: list[float] = json.loads(reply)["seconds"]
        return statistics.median(seconds)

    def results(self, work: str) -> dict[str, Tensor]:
        """What the last measured call gave."""
        return load_file(self.outputs(work))

    def inputs(self, work: str) -> Path:
        return self.scratch / f"{work}.in.safetensors"

    def outputs(self, work: str) -> Path:
        return self.scratch / f"{work}.out.safetensors"
