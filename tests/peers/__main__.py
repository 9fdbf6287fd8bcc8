"""Command line: one comparison, or all of them as a table."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import torch

from .context import Context, Disagreement
from .machine import machine
from .places import ROOT, Missing, Places
from .report import Row, markdown, text

# In the order of the table. What is loaded is only what is asked for.
COMPARISONS = {
    "mul_sum": "the fused kernel against the article's eager code",
    "linear": "a16w8 and split against float32 linear",
    "mse": "the MSE observer against a plugin-like search",
    "article": "the article's job on smallmodel, five ways, against its PyTorch script",
    "minilm": "36 Linears, every legal way, validate and convert (needs --models)",
    "static": "onnxruntime's quantize_static on smallmodel; minilm, encoder_85, encoder_340 with --models",
    "aimet": "AIMET's simulation and analysis of smallmodel, and of minilm with --models",
    "sensitivity": "a plugin-like sensitivity pass",
    "workers": "two workers against one on minilm (needs --models)",
    "scaling": "time against batches, layers and workers, drawn as TARGET/scaling.svg",
    "memory": "a worker's peak memory with 8 and 80 batches of minilm (needs --models)",
    "transfer": "blobs over loopback, by its criterion bench",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/peers/run",
        description="dual16 beside PyTorch and onnxruntime, in one run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="comparisons:\n" + "\n".join(f"  {name:12} {what}" for name, what in COMPARISONS.items()),
    )
    parser.add_argument("comparison", nargs="+", choices=["table", *COMPARISONS], help="table: all of them")
    parser.add_argument(
        "--models", type=Path, help="folder with minilm/ in it: model.onnx, calib/, eval.safetensors"
    )
    parser.add_argument("--target", type=Path, default=ROOT / "target", help="cargo's target folder")
    parser.add_argument("--bin-dir", type=Path, help="dual16's programs [default: TARGET/release]")
    parser.add_argument("--probe", type=Path, help="[default: TARGET/release/examples/peer_kernels]")
    parser.add_argument("--threads", type=int, default=2, help="of both sides [default: 2]")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of a kernel [default: 5]")
    parser.add_argument("--seconds", type=float, default=0.5, help="of one round of a kernel [default: 0.5]")
    parser.add_argument(
        "--job-rounds", type=int, default=3, help="rounds of a job or MSE search [default: 3]"
    )
    parser.add_argument("--markdown", action="store_true", help="the table as PERFORMANCE.md holds it")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    release = given.target / "release"
    places = Places(
        target=given.target.resolve(),
        models=given.models,
        bin_dir=(given.bin_dir or release).resolve(),
        probe=(given.probe or release / "examples/peer_kernels").resolve(),
    )
    names = list(COMPARISONS) if "table" in given.comparison else given.comparison
    rows: list[Row] = []
    failed = False
    measured_on = machine(given.threads)
    if not given.markdown:
        print(measured_on)
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        # A comparison may leave another number behind.
        torch.set_num_threads(given.threads)
        with tempfile.TemporaryDirectory(prefix="dual16-peers-") as scratch, torch.inference_mode():
            context = Context(
                places, Path(scratch), given.threads, given.rounds, given.seconds, given.job_rounds
            )
            try:
                new = importlib.import_module(f".compare_{name}", __package__).compare(context)
            except (Missing, Disagreement, RuntimeError) as problem:
                # What was measured so far is worth keeping.
                print(f"{name}: {problem}", file=sys.stderr)
                failed = True
                continue
        rows += new
        if not given.markdown:
            print(text(new), flush=True)
    if given.markdown:
        print(f"{measured_on}\n\n{markdown(rows)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
