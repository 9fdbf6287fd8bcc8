"""What was measured on, in two lines for the table."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

VECTOR_FLAGS = ("avx2", "avx512bw", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
PACKAGES = ("torch", "onnxruntime", "numpy")


def machine(threads: int) -> str:
    cpu = cpuinfo()
    flags = cpu.get("flags", cpu.get("Features", "")).split()
    vector = ", ".join(flag for flag in VECTOR_FLAGS if flag in flags)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = cpu.get("model name", platform.machine())
    family = f"family {cpu['cpu family']} model {cpu['model']}" if "cpu family" in cpu else "unknown model"
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in PACKAGES)
    return (
        f"{name} ({family}), {os.cpu_count()} cores, {memory:.0f} GiB, {vector}; "
        f"Linux {platform.release()}; {versions}; {threads} threads on both sides; "
        f"load average at the start {os.getloadavg()[0]:.1f}."
    )


def cpuinfo() -> dict[str, str]:
    """The first core's entry."""
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
