"""Reading a model file from a path or from an address that the user typed, within limits."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO

from sonant.errors import SetupError
from sonant.storage.model_files import MAX_MODEL_BYTES

_READ_BYTES = 1 << 20
_STALL_S, _TIME_LIMIT_S = 30.0, 1800.0


@contextmanager
def fetched(source: str, sha256: str | None) -> Iterator[tuple[Path, str]]:
    """Fetch a model: (a file that exists as long as the context, its SHA-256).

    `source` is a path or an address of http, https or file; over http the hash must be known beforehand.
    Raises SetupError, also when the hash is not `sha256`.
    """
    scheme = urllib.parse.urlsplit(source).scheme.lower() if "://" in source else ""
    if scheme not in ("", "http", "https", "file"):
        raise SetupError(f"models are taken from files and from http, https and file addresses, not {scheme}")
    if scheme == "http" and sha256 is None:
        raise SetupError(
            "a file fetched over http may have been changed on the way: give its hash with --sha256"
        )
    with tempfile.TemporaryDirectory(prefix="sonant-model-") as folder:
        file = Path(folder) / "model.onnx"
        try:
            with _opened(source, scheme) as stream:
                found = _copy(stream, file)
        except (OSError, HTTPException, ValueError) as fault:
            reason = getattr(fault, "reason", None) or getattr(fault, "strerror", None) or fault
            raise SetupError(f"the model cannot be read from {source}: {reason}") from None
        if sha256 is not None and found != sha256.lower():
            raise SetupError(f"the model has sha256 {found}, must have {sha256.lower()}")
        yield file, found


def _opened(source: str, scheme: str) -> IO[bytes]:
    if scheme in ("http", "https"):
        opener = urllib.request.build_opener(_SafeRedirects)
        request = urllib.request.Request(source, headers={"User-Agent": "sonant"})  # noqa: S310 - checked above
        opened: IO[bytes] = opener.open(request, timeout=_STALL_S)
        return opened
    if scheme == "file":
        parts = urllib.parse.urlsplit(source)
        if parts.netloc not in ("", "localhost"):
            raise ValueError("a file address names no other host")
        return Path(urllib.request.url2pathname(parts.path)).open("rb")
    return Path(source).open("rb")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows https to https and http to either, nothing else."""

    def redirect_request(self, req: urllib.request.Request, *rest: object) -> urllib.request.Request | None:
        target = str(rest[-1])
        scheme = urllib.parse.urlsplit(target).scheme.lower()
        if scheme != "https" and not (scheme == "http" and req.type == "http"):
            raise urllib.error.URLError(f"the address leads to {scheme or 'nowhere'}")
        return super().redirect_request(req, *rest)  # type: ignore[arg-type]


def _copy(stream: IO[bytes], file: Path) -> str:
    digest, size, start_s = hashlib.sha256(), 0, time.monotonic()
    with file.open("xb") as out:
        while chunk := stream.read(_READ_BYTES):
            size += len(chunk)
            if size > MAX_MODEL_BYTES:
                raise SetupError(f"the model is larger than {MAX_MODEL_BYTES} bytes")
            if time.monotonic() - start_s > _TIME_LIMIT_S:
                raise SetupError(f"the model did not arrive within {_TIME_LIMIT_S:g} s")
            digest.update(chunk)
            out.write(chunk)
    if shutil.disk_usage(file).free < size:
        raise SetupError("there is too little disk space for the model")
    return digest.hexdigest()
