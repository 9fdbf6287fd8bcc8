"""The bytes of a blob from where they lie, past the server: a GET of a URL that the server gave, which is good for a
moment and carries its own permission. No token goes there, and no other address is followed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

# A place that cannot be reached is given up soon: the server can be asked instead.
CONNECT_SECONDS, STALL_SECONDS = 3.0, 60.0
# No URL is asked for so soon after one that did not do: whoever cannot reach the place cannot in a moment.
PAUSE_SECONDS = 60.0
CHUNK = 1 << 20


class Elsewhere(Exception):
    """The rest cannot be had from there. Without the URL: it is a permission."""


class Direct:
    """Whether URLs are of use, for all downloads of a connection."""

    def __init__(self) -> None:
        self._failed: float | None = None

    def wanted(self) -> bool:
        """Whether a URL would be used now."""
        return self._failed is None or time.monotonic() - self._failed >= PAUSE_SECONDS

    def failed(self) -> None:
        """A URL did not do."""
        self._failed = time.monotonic()


def read(url: str, offset: int, size: int) -> Iterator[bytes]:
    """What is at `url` from `offset` to `size`, its end. Raises Elsewhere."""
    try:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.netloc, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
            connection.sock.settimeout(STALL_SECONDS)
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
            answer = connection.getresponse()
            if answer.status != (206 if offset else 200):
                raise Elsewhere(f"it answers {answer.status}")
            while data := answer.read(CHUNK):
                offset += len(data)
                if offset > size:
                    raise Elsewhere("it has more bytes than the blob")
                yield data
        finally:
            connection.close()
    except OSError as error:
        raise Elsewhere(str(error)) from error
    except (HTTPException, ValueError) as error:
        raise Elsewhere(type(error).__name__) from None
    if offset < size:
        raise Elsewhere("it breaks off")
