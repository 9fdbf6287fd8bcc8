"""Progress for people: a line that is written over on a terminal, an output that is updated in a notebook, nothing
elsewhere."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from .events import Event, LayerMeasured, Notice, OutputMeasured, Progress


def _figure(db: float | None) -> str:
    return "exact" if db is None else f"{db:.1f} dB"


def line_of(event: Event) -> str | None:
    """What stays to be read of an event; None where nothing does."""
    if isinstance(event, LayerMeasured):
        metrics = event.ways[event.effective].metrics if event.effective in event.ways else None
        figure = f"  {_figure(metrics.sqnr_db)}" if metrics else ""
        return f"layer {event.name}: {event.effective}{figure}"
    if isinstance(event, OutputMeasured):
        return (
            f"output {event.name}: {_figure(event.validation.sqnr_db)}, in integers {_figure(event.converted.sqnr_db)}"
        )
    if isinstance(event, Notice) and event.warning:
        return f"{event.code} {event.subject}: {event.message}"
    return None


class Display:
    """Shows a job's events where somebody looks: shown=None = on a terminal and in a notebook."""

    def __init__(self, shown: bool | None = None, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._handle: Any = None
        self._lines: list[str] = []
        if shown is not False:
            self._handle = _notebook()
        terminal = self._handle is None and self._stream.isatty()
        self._over = terminal and shown is not False
        self._plain = shown is True and not terminal and self._handle is None

    def show(self, event: Event) -> None:
        """Shows one event."""
        line = line_of(event)
        if line is not None:
            self._lines.append(line)
        status = f"{event.stage} {event.done}/{event.tasks}" if isinstance(event, Progress) else None
        if self._handle is not None:
            from IPython.display import Pretty

            self._handle.update(Pretty("\n".join([*self._lines, *([status] if status else [])])))
        elif self._over:
            above = f"{line}\n" if line is not None else ""
            self._stream.write(f"\r\x1b[K{above}{status or ''}")
            self._stream.flush()
        elif self._plain and line is not None:
            self._stream.write(f"{line}\n")

    def end(self) -> None:
        """Leaves the screen as it is to stay."""
        if self._over:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _notebook() -> Any:
    """Where a notebook shows what changes; None where this is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import Pretty, display

    return display(Pretty(""), display_id=True)
