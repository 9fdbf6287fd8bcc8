"""Files to and from a server, by digest: only what it lacks, from where an interrupted transfer stopped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import grpc

from . import _direct, errors, v1
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
    with partial.open("wb") as target:
        incoming = _Incoming(wire, artifact.digest, target)
        incoming.receive()
    if not incoming.is_right():
        partial.unlink()
        incoming.examine()
        raise errors.DamagedTransfer(f"{artifact.name}: what came has another digest than {artifact.digest}")
    partial.replace(path)
    return path


class _Incoming:
    """A blob on its way into a file, over broken streams."""

    def __init__(self, wire: Wire, digest: str, target: BinaryIO) -> None:
        self._wire, self._digest, self._target = wire, digest, target
        self._hash, self._received = hashlib.sha256(), 0
        self._through_server = False
        # Bytes came from a URL, which the server has not looked at.
        self._unseen = False

    def receive(self) -> None:
        """From the server, or from where it says that the bytes are."""
        outage = self._wire.outage("Download")
        while True:
            accept_url = not self._through_server and self._wire.direct.wanted()
            try:
                for message in self._wire.download(self._digest, self._received, accept_url):
                    if message.url:
                        self._receive_from(message.url, message.size)
                    self._take(message.data)
                    outage.over()
                return
            except grpc.RpcError as error:
                outage.wait(error)
            except _direct.Elsewhere as error:
                text = "%s cannot be had from its store (%s): the rest comes through the server"
                logging.getLogger(__package__).warning(text, self._digest, error)
                self._wire.direct.failed()
                self._through_server = True

    def _receive_from(self, url: str, size: int) -> None:
        for data in _direct.read(url, self._received, size):
            self._unseen = True
            self._take(data)

    def _take(self, data: bytes) -> None:
        self._hash.update(data)
        self._target.write(data)
        self._received += len(data)

    def is_right(self) -> bool:
        """Whether what came is what the digest names."""
        return self._digest == f"sha256:{self._hash.hexdigest()}"

    def examine(self) -> None:
        """Has the server look at a blob that came wrong past it, so that it is not given out any more.

        Raises errors.Refused, with the reason BLOB_DAMAGED if it is damaged where it is kept.
        """
        if self._unseen:
            self._wire.persist("Download", lambda: list(self._wire.download(self._digest, self._received, False)))
