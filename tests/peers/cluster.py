"""A server and its workers as processes on loopback, each cluster with empty folders."""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .places import Model, Places
from .timing import once

START_LIMIT = 30.0
STOP_LIMIT = 30.0

# Long enough for a worker to connect and wait for its first task.
SETTLE = 1.0


@dataclass(frozen=True)
class Results:
    """What a job left."""

    folder: Path
    seconds: float
    """From the start of the client, which uploads, to the artifacts on disk."""

    def isolated(self) -> dict[tuple[str, str], float]:
        """SQNR in dB by layer and way."""
        with (self.folder / "ways.csv").open(newline="") as file:
            return {
                (row["layer"], row["way"]): float(row["isolated_sqnr_db"] or "inf")
                for row in csv.DictReader(file)
            }

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return result

    def rank_correlation(self) -> float:
        """Of the estimate of an analysis with its exact rows."""
        analysis: dict[str, Any] = json.loads((self.folder / "sensitivity.json").read_text())
        return float(analysis["rank_correlation"].rsplit(" ", 1)[1])

    def chosen(self) -> dict[str, str]:
        return {layer["name"]: layer["way"] for layer in self.result()["layers"]}

    def accumulated(self, layer: str) -> float:
        """VALIDATION SQNR in dB at a layer of the quantized model."""
        (found,) = (entry for entry in self.result()["layers"] if entry["name"] == layer)
        return float(found["accumulated"]["validation"]["sqnr_db"])

    def output(self) -> float:
        """VALIDATION SQNR in dB of the first output."""
        return float(self.result()["outputs"][0]["validation"]["sqnr_db"])


class Cluster:
    """`workers` processes, each with `tasks` at once and as many threads."""

    def __init__(self, places: Places, scratch: Path, *, workers: int, tasks: int) -> None:
        self.places = places
        self.folder = Path(tempfile.mkdtemp(prefix="cluster-", dir=scratch))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.worker_processes: list[subprocess.Popen[bytes]] = []
        self.numbers = itertools.count()
        # Settings of the caller's own shell are not part of the comparison.
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("DUAL16_")
        }
        try:
            self.url = f"http://{self.start_server()}"
            for number in range(workers):
                self.worker_processes.append(self.start_worker(number, tasks))
            time.sleep(SETTLE)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def quantize(self, model: Model, calibration: Path, *flags: str) -> Results:
        # No peer looks for what the outputs need.
        return self.run_job("quantize", model, calibration, "--min-output-sqnr", "0", *flags)

    def analyze(self, model: Model, calibration: Path, *flags: str) -> Results:
        return self.run_job("analyze", model, calibration, *flags)

    def run_job(self, kind: str, model: Model, calibration: Path, *flags: str) -> Results:
        out = self.folder / f"out-{next(self.numbers)}"
        command: list[str | Path] = [
            self.places.program("dual16"),
            kind,
            "--server",
            self.url,
            model.onnx,
        ]
        command += ["--calib", calibration, "--out", out, "--output", "json", *flags]
        log = self.folder / "client.log"

        def run() -> None:
            with log.open("ab") as file:
                subprocess.run(command, env=self.environment, stdout=file, stderr=file, check=True)

        try:
            seconds = once(run)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"{error}: {log.read_text()}") from error
        return Results(out, seconds)

    def worker_peak_bytes(self) -> int:
        """Largest resident size any worker has had."""
        return max(peak_bytes(process.pid) for process in self.worker_processes)

    def start_server(self) -> str:
        port_file = self.folder / "address"
        server = self.spawn(
            "dual16-server",
            *("--listen", "127.0.0.1:0"),
            *("--data", self.folder / "data"),
            *("--port-file", port_file),
        )
        deadline = time.monotonic() + START_LIMIT
        while not (port_file.is_file() and port_file.read_text().strip()):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dual16-server did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.02)
        return port_file.read_text().strip()

    def start_worker(self, number: int, tasks: int) -> subprocess.Popen[bytes]:
        return self.spawn(
            "dual16-worker",
            *("--server", self.url),
            *("--workers", str(tasks)),
            *("--threads", str(tasks)),
            *("--cache", self.folder / f"cache-{number}"),
        )

    def spawn(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        command = [self.places.program(program), *arguments, "--log", "warn"]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no VmHWM for process {pid}: this needs Linux")
