"""docs/tutorial.md and the examples, as somebody follows them: every file and every command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from dual16 import local

HERE = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def environment(tmp_path: Path) -> dict[str, str]:
    """With this Python as `python`, this package, and the program beside them."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "dual16").symlink_to(local.program().resolve())
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tools / "python").chmod(0o755)
    own = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(HERE / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | own


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.torch
def test_the_tutorial(tmp_path: Path) -> None:
    own = environment(tmp_path)
    folder = tmp_path / "work"
    folder.mkdir()
    printed = ""
    for language, text in BLOCK.findall((REPOSITORY / "docs/tutorial.md").read_text()):
        if language == "sh":
            printed += run(["bash", "-euc", text], folder, own)
            continue
        name = re.match(r'"""(\w+\.py): ', text)
        assert language == "python" and name, f"a block of {language} that no test would run:\n{text}"
        (folder / name[1]).write_text(text)
    # What it says happens.
    assert re.search(r"fc2 +a8w8 +-?\d\.", printed), printed
    assert re.search(r"^fc2 a16w8 -> (?!a16w8 )", printed, re.MULTILINE), printed
    assert "fake quant in PyTorch" in printed


@pytest.mark.torch
def test_the_training_loop(tmp_path: Path) -> None:
    printed = run([sys.executable, str(HERE / "examples/training.py")], tmp_path, environment(tmp_path))
    assert printed.count("epoch") == 3, printed
