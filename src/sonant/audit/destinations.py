"""Places outside of the service where the heads of the audit trail are sent, by the scheme of a URL.

    file:///mnt/worm/heads.jsonl    lines of JSON, appended; for a file on another mount
    https://...                     signed POST, as the event sink `webhook` sends it
    s3://bucket/prefix              one object a head; for a bucket with Object Lock and a default retention

A destination that can be read again is compared with the trail by `sonant audit verify`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from sonant.errors import SetupError, SonantError
from sonant.events.sinks import SinkFault
from sonant.events.sinks.file import FileSink
from sonant.events.sinks.webhook import WebhookSink
from sonant.settings import Settings
from sonant.settings.registries import OBJECT_STORES
from sonant.storage.objects.store import ObjectStore, ObjectUri

#: Size of a file of heads after which the next one starts, and the files that are kept.
_FILE_BYTES, _FILES = 1 << 30, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadMessage:
    """The last line of a chain, as it is sent."""

    installation: str
    chain_id: str
    name: str
    host: str
    sequence: int
    head: str
    mac: str
    """The line's code: whoever has the root key can tell that no other wrote this head."""
    time: str

    def document(self) -> bytes:
        """Return the head as JSON."""
        members = {
            "type": "sonant.audit.head",
            "installation": self.installation,
            "chain": self.chain_id,
            "name": self.name,
            "host": self.host,
            "sequence": self.sequence,
            "hash": self.head,
            "mac": self.mac,
            "time": self.time,
        }
        return json.dumps(members, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, members: Mapping[str, Any]) -> HeadMessage:
        """Read what `document` wrote. Raises KeyError, TypeError, ValueError."""
        return cls(
            installation=str(members["installation"]),
            chain_id=str(members["chain"]),
            name=str(members["name"]),
            host=str(members["host"]),
            sequence=int(members["sequence"]),
            head=str(members["hash"]),
            mac=str(members["mac"]),
            time=str(members["time"]),
        )


class Destination(Protocol):
    """A place that heads are sent to."""

    @property
    def shown(self) -> str:
        """Its name in messages, without secrets."""
        ...

    def send(self, heads: Sequence[HeadMessage]) -> None:
        """Store heads for good. Raises SonantError."""
        ...

    def read(self, installation: str) -> Iterator[HeadMessage]:
        """Yield the heads of an installation that were sent; none where they cannot be read again.

        Raises SonantError when they should be there and cannot be read.
        """
        ...


class FileDestination:
    """Appends heads to a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._sink = path, FileSink(path, max_bytes=_FILE_BYTES, keep=_FILES)
        self.shown = str(path)

    def send(self, heads: Sequence[HeadMessage]) -> None:
        self._sink.deliver([head.document() for head in heads])

    def read(self, installation: str) -> Iterator[HeadMessage]:
        try:
            paths = sorted(self._path.parent.glob(f"{self._path.name}*"))
            for path in paths:
                for line in path.read_bytes().splitlines():
                    head = _parsed(line)
                    if head is not None and head.installation == installation:
                        yield head
        except OSError as fault:
            raise SinkFault(f"{self._path} cannot be read: {fault.strerror}") from None
        if not paths:
            raise SinkFault(f"{self._path} is missing, to which heads are sent")


class WebhookDestination:
    """Posts heads to a URL, where nothing is read again."""

    def __init__(self, url: str, secret: str, time_limit_s: float) -> None:
        self._sink = WebhookSink(
            url, secret=secret, time_limit_s=time_limit_s, settings=("audit.heads_to", "audit.heads_secret")
        )
        self.shown = f"{urlsplit(url).scheme}://{urlsplit(url).hostname}"

    def send(self, heads: Sequence[HeadMessage]) -> None:
        self._sink.deliver([head.document() for head in heads])

    def read(self, installation: str) -> Iterator[HeadMessage]:
        return iter(())


class ObjectDestination:
    """Writes each head as an object, whose key says all that `verify` needs."""

    def __init__(self, uri: ObjectUri, objects: ObjectStore) -> None:
        self._uri, self._objects = uri, objects
        self.shown = uri.shown

    def send(self, heads: Sequence[HeadMessage]) -> None:
        for head in heads:
            line = f"{head.sequence:016d}-{head.head}.json"
            key = f"{self._folder(head.installation)}{head.name}/{head.chain_id}/{line}"
            self._objects.write(ObjectUri(self._uri.bucket, key), head.document())

    def read(self, installation: str) -> Iterator[HeadMessage]:
        folder = self._folder(installation)
        for found in self._objects.list(self._uri.bucket, folder):
            name, chain_id, line = found.uri.key.removeprefix(folder).split("/")
            sequence, _, head = line.removesuffix(".json").partition("-")
            yield HeadMessage(
                installation=installation,
                chain_id=chain_id,
                name=name,
                host="",
                sequence=int(sequence),
                head=head,
                mac="",
                time="",
            )

    def _folder(self, installation: str) -> str:
        prefix = self._uri.key.strip("/")
        return f"{prefix}/{installation}/" if prefix else f"{installation}/"


def build_destinations(settings: Settings) -> list[Destination]:
    """Make the destinations that `audit.heads_to` names. Raises SetupError for one that cannot be used."""
    urls = [url.strip() for url in settings.audit.heads_to.split(",") if url.strip()]
    return [_destination(url, settings) for url in dict.fromkeys(urls)]


def _destination(url: str, settings: Settings) -> Destination:
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path not in ("", "/"):
        path = Path(unquote(parts.path))
        if path.resolve().is_relative_to(settings.data.absolute().resolve()):
            raise SetupError(
                f"setting audit.heads_to names {path}, which is in the data folder: whoever can write the "
                "trail could write the heads too; name a file elsewhere"
            )
        return FileDestination(path)
    if parts.scheme in ("http", "https"):
        return WebhookDestination(url, settings.audit.heads_secret, settings.events.webhook_time_limit_s)
    if parts.scheme == "s3":
        try:
            uri = ObjectUri.parse(url)
        except SonantError as fault:
            raise SetupError(f"setting audit.heads_to: {fault}") from None
        back_end = OBJECT_STORES.get("s3")
        back_end.check(settings)
        return ObjectDestination(uri, back_end(settings, None, None).objects())
    raise SetupError(
        f"setting audit.heads_to names {url[:100]!r}, must be file:///path, https://... or s3://bucket/prefix"
    )


def _parsed(line: bytes) -> HeadMessage | None:
    try:
        return HeadMessage.parse(json.loads(line))
    except (ValueError, KeyError, TypeError):
        return None
