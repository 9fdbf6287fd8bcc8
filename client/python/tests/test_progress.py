"""Progress where somebody looks, and nothing where nobody does."""

from __future__ import annotations

import io
import sys
from types import ModuleType
from typing import Any

import pytest

import dual16
from dual16.progress import Display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(shown: bool | None, stream: io.StringIO) -> str:
    display = Display(shown, stream)
    display.show(dual16.Progress("observe", 1, 3))
    display.show(dual16.Notice(True, "WIDE", "fc", "wide"))
    display.end()
    return stream.getvalue()


def test_a_line_is_written_over_on_a_terminal_only() -> None:
    assert show(None, Terminal()) == "\r\x1b[Kobserve 1/3\r\x1b[KWIDE fc: wide\n\r\x1b[K"
    assert show(None, io.StringIO()) == ""
    assert show(True, io.StringIO()) == "WIDE fc: wide\n"
    assert show(False, Terminal()) == ""


class ZMQInteractiveShell:
    """What IPython calls the shell of a notebook."""


def test_a_notebook_has_one_output_that_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: list[str] = []

    class Handle:
        def update(self, text: str) -> None:
            outputs.append(text)

    def display(text: str, display_id: bool) -> Handle:
        assert text == "" and display_id
        return Handle()

    ipython: Any = ModuleType("IPython")
    ipython.get_ipython = ZMQInteractiveShell
    ipython.display = ModuleType("IPython.display")
    ipython.display.Pretty, ipython.display.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    assert show(None, io.StringIO()) == "", "nothing goes to stderr"
    assert outputs == ["observe 1/3", "WIDE fc: wide"]
