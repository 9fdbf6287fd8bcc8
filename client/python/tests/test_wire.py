"""What is interrupted goes on: against a server that breaks off wherever it can."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest

import dual16
from dual16 import _transfer, errors, v1
from dual16._transfer import InputFile
from dual16._wire import Wire
from dual16.events import Notice

DATA = bytes(range(256)) * 12_000
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


class Breaking:
    """Answers once for each of a job's three events, keeps 1 MiB of each upload and sends 1 MiB of each download."""

    def __init__(self) -> None:
        self.kept = b""
        self.sent = DATA
        # Where it says that the bytes are, if somebody wants to know.
        self.url = ""
        # Offsets of downloads that were answered with bytes.
        self.passed: list[int] = []
        self.offsets: list[int] = []

    def find_missing(self, request: v1.FindMissingRequest, _: Any) -> v1.FindMissingResponse:
        return v1.FindMissingResponse(missing=request.digests)

    def query_upload(self, _: v1.QueryUploadRequest, __: Any) -> v1.QueryUploadResponse:
        return v1.QueryUploadResponse(committed=len(self.kept), complete=len(self.kept) == len(DATA))

    def upload(self, messages: Iterator[v1.UploadRequest], context: Any) -> v1.UploadResponse:
        first = next(messages)
        self.offsets.append(first.offset)
        assert first.offset == len(self.kept)
        self.kept += first.data
        if len(self.kept) < len(DATA):
            retry = v1.RetryInfo()
            retry.retry_delay.nanos = 1_000_000
            packed = v1.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry.SerializeToString())
            status = v1.Status(code=10, message="too slow", details=[packed])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.ABORTED, "too slow")
        return v1.UploadResponse(size=len(self.kept))

    def download(self, request: v1.DownloadRequest, context: Any) -> Iterator[v1.DownloadResponse]:
        if request.accept_url and self.url:
            yield v1.DownloadResponse(size=len(DATA), url=self.url)
            return
        self.passed.append(request.offset)
        if self.url and request.offset == len(DATA):
            context.abort(grpc.StatusCode.DATA_LOSS, "the blob is damaged")
        yield v1.DownloadResponse(size=len(DATA), data=self.sent[request.offset : request.offset + (1 << 20)])
        if request.offset + (1 << 20) < len(DATA):
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    def watch(self, request: v1.WatchJobRequest, context: Any) -> Iterator[v1.JobEvent]:
        event = v1.JobEvent(sequence=request.after_sequence + 1)
        event.detail.notice.code = f"NUMBER_{event.sequence}"
        if event.sequence <= 3:
            yield event
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    def get_job(self, _: v1.GetJobRequest, __: Any) -> v1.Job:
        return v1.Job(name="jobs/1", state=dual16.State.SUCCEEDED, last_sequence=3)  # type: ignore[arg-type]

    def serve(self, server: grpc.Server) -> None:
        def handlers(service: str, methods: dict[str, tuple[Any, Any, Any]]) -> None:
            made = {
                name: kind(
                    call, request_deserializer=request.FromString, response_serializer=lambda x: x.SerializeToString()
                )
                for name, (kind, call, request) in methods.items()
            }
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(f"dual16.v1.{service}", made)])

        unary, to_stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        handlers(
            "BlobService",
            {
                "FindMissing": (unary, self.find_missing, v1.FindMissingRequest),
                "QueryUpload": (unary, self.query_upload, v1.QueryUploadRequest),
                "Upload": (grpc.stream_unary_rpc_method_handler, self.upload, v1.UploadRequest),
                "Download": (to_stream, self.download, v1.DownloadRequest),
            },
        )
        handlers(
            "JobService",
            {
                "WatchJob": (to_stream, self.watch, v1.WatchJobRequest),
                "GetJob": (unary, self.get_job, v1.GetJobRequest),
            },
        )


@pytest.fixture
def breaking() -> Iterator[tuple[Breaking, str]]:
    server = grpc.server(ThreadPoolExecutor(4))
    service = Breaking()
    service.serve(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"http://127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def wire(breaking: tuple[Breaking, str]) -> Iterator[Wire]:
    wire = Wire(breaking[1], None, None, False, give_up_after=10)
    yield wire
    wire.close()


def test_an_upload_goes_on_from_what_is_kept(breaking: tuple[Breaking, str], wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    moved: list[int] = []
    _transfer.upload(wire, [InputFile.of("data", path)], moved.append)
    assert breaking[0].kept == DATA
    assert breaking[0].offsets == [0, 1 << 20, 2 << 20]


def test_a_download_goes_on_from_what_came(wire: Wire, tmp_path: Path) -> None:
    path = _transfer.download(wire, v1.Artifact(name="handoff/README.md", digest=DIGEST), tmp_path)
    assert path == tmp_path / "handoff/README.md" and path.read_bytes() == DATA


@pytest.fixture
def store() -> Iterator[ThreadingHTTPServer]:
    """Has DATA at /whole, half of it at /half and another byte in it at /wrong."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert "authorization" not in self.headers
            kept = {"/whole?signed": DATA, "/half?signed": DATA[: len(DATA) // 2], "/wrong?signed": DATA[:-1] + b"?"}
            if self.path not in kept:
                self.send_error(403)
                return
            begin = int(self.headers.get("range", "bytes=0-")[6:-1])
            self.send_response(206 if begin else 200)
            self.send_header("content-length", str(len(DATA) - begin))
            self.end_headers()
            self.wfile.write(kept[self.path][begin:])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever).start()
    yield server
    server.shutdown()
    server.server_close()


MIB = 1 << 20


@pytest.mark.parametrize(
    ("place", "passed"),
    [
        ("/whole?signed", []),
        ("/half?signed", [len(DATA) // 2, len(DATA) // 2 + MIB]),
        ("/expired", [0, MIB, 2 * MIB]),
        (":1", [0, MIB, 2 * MIB]),
    ],
)
def test_what_cannot_be_had_from_its_store_comes_through_the_server(
    breaking: tuple[Breaking, str], wire: Wire, store: ThreadingHTTPServer, tmp_path: Path, place: str, passed: list[int]
) -> None:
    service = breaking[0]
    service.url = f"http://127.0.0.1{place}" if place[0] == ":" else f"http://127.0.0.1:{store.server_port}{place}"
    for number in range(2):
        path = _transfer.download(wire, v1.Artifact(name=f"{number}", digest=DIGEST), tmp_path)
        assert path.read_bytes() == DATA
    # The second time nobody tries the way that was none a moment ago.
    assert service.passed == passed + ([0, MIB, 2 * MIB] if passed else [])


def test_the_server_learns_of_what_is_damaged_in_its_store(
    breaking: tuple[Breaking, str], wire: Wire, store: ThreadingHTTPServer, tmp_path: Path
) -> None:
    breaking[0].url = f"http://127.0.0.1:{store.server_port}/wrong?signed"
    with pytest.raises(errors.Refused, match="the blob is damaged"):
        _transfer.download(wire, v1.Artifact(name="result.json", digest=DIGEST), tmp_path)
    assert breaking[0].passed == [len(DATA)] and not list(tmp_path.iterdir())


def test_damaged_bytes_are_not_kept(breaking: tuple[Breaking, str], wire: Wire, tmp_path: Path) -> None:
    breaking[0].sent = b"\0" * len(DATA)
    with pytest.raises(errors.DamagedTransfer, match=r"result\.json"):
        _transfer.download(wire, v1.Artifact(name="result.json", digest=DIGEST), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../result.json", "/result.json", "handoff/../../x", "..\\x"])
def test_a_name_that_leads_out_of_the_folder_is_refused(wire: Wire, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(errors.DamagedTransfer, match="no place in a folder"):
        _transfer.download(wire, v1.Artifact(name=name, digest=DIGEST), folder)
    assert list(tmp_path.iterdir()) == [folder] and not list(folder.iterdir())


def test_a_watch_tells_each_event_once(breaking: tuple[Breaking, str]) -> None:
    with dual16.Client(breaking[1]) as client:
        codes = [event.code for event in client.job("1").events() if isinstance(event, Notice)]
    assert codes == ["NUMBER_1", "NUMBER_2", "NUMBER_3"]
