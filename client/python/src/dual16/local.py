"""A server and its workers on this machine: a child process that ends with this one."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import subprocess
import sysconfig
from pathlib import Path

from . import errors

# Worker and server take 2 s each for what they have to give back.
SECONDS_TO_STOP = 15


def program() -> Path:
    """The `dual16` program: DUAL16_PROGRAM, else that of this installation, else that of the path.

    Raises errors.LocalError.
    """
    given = os.environ.get("DUAL16_PROGRAM")
    if given:
        return Path(given)
    name = "dual16.exe" if os.name == "nt" else "dual16"
    installed = Path(sysconfig.get_path("scripts")) / name
    if installed.is_file():
        return installed
    found = shutil.which(name)
    if found is None:
        raise errors.LocalError(f"there is no program {name}, neither in {installed.parent} nor on the path")
    return Path(found)


class LocalServer:
    """A server on loopback that lets in this process alone, with workers for `workers` tasks at the same time (None =
    one for each core) and its state in the folder `data`.

    It ends when it is closed, and with this process, however that ends: the other end of its stdin is here.
    """

    def __init__(self, data: Path, workers: int | None = None) -> None:
        self.token = secrets.token_urlsafe(32)
        arguments = [str(program()), "local-server", "--data", str(data), "--output", "json"]
        if workers is not None:
            arguments += ["--workers", str(workers)]
        # Its settings are these arguments; a server that the user's commands use is not meant.
        passed = {name: value for name, value in os.environ.items() if not name.startswith("DUAL16_")}
        logs = {name: os.environ[name] for name in ("DUAL16_LOG", "DUAL16_LOG_FORMAT") if name in os.environ}
        try:
            self._child = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=passed | logs | {"DUAL16_TOKEN": self.token},
                # Ctrl-C is for this process, which then ends or goes on as it likes.
                start_new_session=True,
            )
        except OSError as error:
            raise errors.LocalError(f"cannot start {arguments[0]}: {error.strerror}") from error
        atexit.register(self.close)
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        answer = json.loads(line) if line else {}
        if "url" not in answer:
            self.close()
            message = answer.get("error", {}).get("message", f"{arguments[0]} ended with {self._child.returncode}")
            raise errors.LocalError(message)
        self.url: str = answer["url"]

    def close(self) -> None:
        """Ends it; tasks that run are given back and stay in its state."""
        atexit.unregister(self.close)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._child.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
