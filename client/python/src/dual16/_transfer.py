"""Files to and from a server, by digest: only what it lacks, from where an interrupted transfer stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import grpc

from . import errors, v1
from ._wire import Wire

CHUNK = 1 << 20
# Digests in one question; a server's limit is far above.
ASKED = 1000

Moved = Callable[[int], None]


@dataclass(frozen=True)
class InputFile:
    """A file of a job."""

    name: str
    """Relative path, '/'-separated, as the job knows it."""
    path: Path
    digest: str
    size: int

    @classmethod
    def of(cls, name: str, path: Path) -> InputFile:
        """Reads the file for its digest."""
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as source:
            while data := source.read(CHUNK):
                digest.update(data)
                size += len(data)
        return cls(name, path, f"sha256:{digest.hexdigest()}", size)

    def message(self) -> v1.InputFile:
        return v1.InputFile(name=self.name, digest=self.digest, size=self.size)


def upload(wire: Wire, files: list[InputFile], moved: Moved = lambda _: None) -> None:
    """Sends what the server does not have of `files`; `moved` is told the bytes as they go."""
    by_digest = {file.digest: file for file in files}
    digests = list(by_digest)
    for begin in range(0, len(digests), ASKED):
        for digest in sorted(wire.find_missing(digests[begin : begin + ASKED])):
            _upload_one(wire, by_digest[digest], moved)


def _upload_one(wire: Wire, file: InputFile, moved: Moved) -> None:
    outage, furthest = wire.outage("Upload"), 0
    while True:
        kept = wire.query_upload(file.digest)
        if kept.complete:
            return
        if kept.committed > furthest:
            outage.over()
        furthest = max(furthest, kept.committed)
        try:
            wire.upload(_messages(file, kept.committed, moved))
            return
        except grpc.RpcError as error:
            outage.wait(error)


def _messages(file: InputFile, offset: int, moved: Moved) -> Iterator[v1.UploadRequest]:
    with file.path.open("rb") as source:
        source.seek(offset)
        data = source.read(CHUNK)
        yield v1.UploadRequest(digest=file.digest, size=file.size, offset=offset, data=data)
        moved(len(data))
        while data := source.read(CHUNK):
            yield v1.UploadRequest(data=data)
            moved(len(data))


def download(wire: Wire, artifact: v1.Artifact, folder: Path) -> Path:
    """Brings an artifact into `folder`, under its name once its bytes are known to be right.

    Raises errors.DamagedTransfer, also for a name that leads out of the folder.
    """
    name = PurePosixPath(artifact.name)
    if name.is_absolute() or ".." in name.parts or "\\" in artifact.name:
        raise errors.DamagedTransfer(f"an artifact is called {artifact.name!r}, which is no place in a folder")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    digest, size, outage = hashlib.sha256(), 0, wire.outage("Download")
    with partial.open("wb") as target:
        while True:
            try:
                for message in wire.download(artifact.digest, size):
                    digest.update(message.data)
                    target.write(message.data)
                    size += len(message.data)
                    outage.over()
                break
            except grpc.RpcError as error:
                outage.wait(error)
    if artifact.digest != f"sha256:{digest.hexdigest()}":
        partial.unlink()
        raise errors.DamagedTransfer(f"{artifact.name}: what came has another digest than {artifact.digest}")
    partial.replace(path)
    return path
