"""An independent client: stubs generated from the protos at run time, no code of dual16.

usage: submit_and_watch.py HOST:PORT PROTO_DIR MODEL.onnx CALIB_DIR

Uploads the model and its batches, creates a job twice under one request id, watches it to its
end, downloads result.json, and prints a report as JSON.
"""

import hashlib
import json
import pathlib
import sys
import tempfile
import uuid

import grpc
import grpc_tools
from grpc_tools import protoc

CHUNK = 1 << 20
TIMEOUT = 200  # seconds for each call


def generate(proto_dir: pathlib.Path, out: str) -> None:
    """Generates messages and stubs of every proto into `out`, and makes them importable."""
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    protos = sorted(str(path) for path in proto_dir.rglob("*.proto"))
    arguments = [f"-I{proto_dir}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(["protoc", *arguments, *protos]) != 0:
        sys.exit("the protos do not compile")
    sys.path.insert(0, out)


def main() -> None:
    address, proto_dir, model, calib = sys.argv[1], *map(pathlib.Path, sys.argv[2:5])
    with tempfile.TemporaryDirectory() as generated, grpc.insecure_channel(address) as channel:
        generate(proto_dir, generated)
        print(json.dumps(run(channel, model, sorted(calib.iterdir()))))


def run(channel: grpc.Channel, model: pathlib.Path, batches: list[pathlib.Path]) -> dict:
    from dual16.v1 import blobs_pb2, blobs_pb2_grpc, jobs_pb2, jobs_pb2_grpc, quantize_pb2

    blobs = blobs_pb2_grpc.BlobServiceStub(channel)
    jobs = jobs_pb2_grpc.JobServiceStub(channel)

    def upload(path: pathlib.Path, name: str):
        data = path.read_bytes()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        found = blobs.FindMissing(blobs_pb2.FindMissingRequest(digests=[digest]), timeout=TIMEOUT)
        if list(found.missing):

            def messages():
                yield blobs_pb2.UploadRequest(digest=digest, size=len(data), data=data[:CHUNK])
                for start in range(CHUNK, len(data), CHUNK):
                    yield blobs_pb2.UploadRequest(data=data[start : start + CHUNK])

            answer = blobs.Upload(messages(), timeout=TIMEOUT)
            assert answer.size == len(data), answer
        return jobs_pb2.InputFile(name=name, digest=digest, size=len(data))

    def download(digest: str) -> bytes:
        stream = blobs.Download(blobs_pb2.DownloadRequest(digest=digest), timeout=TIMEOUT)
        data = b"".join(part.data for part in stream)
        assert "sha256:" + hashlib.sha256(data).hexdigest() == digest, "the download is damaged"
        return data

    request = jobs_pb2.CreateJobRequest(
        spec=jobs_pb2.JobSpec(
            onnx=jobs_pb2.OnnxModel(model=upload(model, model.name)),
            calibration=[upload(path, f"calib/{path.name}") for path in batches],
            quantize=quantize_pb2.QuantizeSpec(),
        ),
        request_id=str(uuid.uuid4()),
    )
    job = jobs.CreateJob(request, timeout=TIMEOUT)
    assert jobs.CreateJob(request, timeout=TIMEOUT).name == job.name, "CreateJob is not idempotent"

    sequences, measured = [], {}
    for event in jobs.WatchJob(jobs_pb2.WatchJobRequest(name=job.name), timeout=TIMEOUT):
        sequences.append(event.sequence)
        if event.detail.HasField("layer_measured"):
            layer = event.detail.layer_measured
            measured[layer.layer] = layer.effective

    job = jobs.GetJob(jobs_pb2.GetJobRequest(name=job.name), timeout=TIMEOUT)
    artifacts = {artifact.name: artifact for artifact in job.artifacts}
    return {
        "state": jobs_pb2.JobState.Name(job.state),
        "sequences": sequences,
        "layers_measured": measured,
        "result": json.loads(download(artifacts["result.json"].digest)),
    }


if __name__ == "__main__":
    main()
