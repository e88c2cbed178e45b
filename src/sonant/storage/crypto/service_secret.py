"""The service's own key: what is derived from it, and how a rotation passes from one key to the next.

    service.key --derives--> one key for each purpose of `PurposeKeys`

While a rotation runs, and after it, there are several keys:

    prepared    the next key, before the switch: nothing is made with it, what it made elsewhere is accepted
    present     makes everything
    former      opens what it made: everything until the rotation is finished, then only what cannot be made
                anew (signatures, hashes in the ledger, the audit trail's lines), and tokens until they expire

Processes learn of a rotation from the files of the keys, which `ServiceSecret` looks at whenever it makes
something, and again before it refuses something.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sonant.errors import SealBroken
from sonant.storage.crypto.sealing import derive, lookup_hash, open_value, seal_value

#: How long cookies and page tokens of a former key are accepted: page tokens are valid for 24 hours, cookies
#: for 10.
TOKENS_LIFETIME = timedelta(hours=24)
#: How long hashes of a former key are looked up: what is remembered of a signature lasts seven days.
HASHES_LIFETIME = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerKey:
    """A service key that was replaced."""

    key: bytes = field(repr=False)
    replaced_at: datetime | None
    """When its rotation was finished; None while rows and secrets may still be under it."""
    tokens_accepted: bool = True
    """Whether cookies and page tokens that it made are accepted until they expire. Not of a leaked key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKeys:
    """The service's own keys as their files have them."""

    present: bytes = field(repr=False)
    former: tuple[FormerKey, ...] = ()
    """The latest first."""
    prepared: bytes | None = field(default=None, repr=False)

    @property
    def unfinished(self) -> FormerKey | None:
        """The key that a rotation is replacing."""
        return next((one for one in self.former if one.replaced_at is None), None)


class KeySource(Protocol):
    """The files of the keys."""

    def renewed(self) -> ServiceKeys | None:
        """Return the keys when their files have changed since the last call, else None."""
        ...

    def read(self) -> ServiceKeys | None:
        """Return the keys as they are now; None without a key."""
        ...

    def promote(self) -> None:
        """Make the prepared key the present one."""
        ...


def service_key_id(key: bytes) -> str:
    """Return a name of a key that does not reveal it: 16 hexadecimal digits."""
    return hashlib.sha256(b"sonant service key id " + derive(key, "key id")).hexdigest()[:16]


class PurposeKeys:
    """What is derived from one key."""

    __slots__ = (
        "access", "audit", "binding", "check", "cookies", "ledger", "pages", "receipts", "rotation", "rows",
        "tokens",
    )  # fmt: skip

    def __init__(self, key: bytes) -> None:
        self.rows = derive(key, "row macs")
        self.binding = derive(key, "record of bound rows")
        self.rotation = derive(key, "record of a rotation")
        self.audit = derive(key, "audit trail")
        self.access = derive(key, "access keys")
        self.pages = derive(key, "page tokens")
        self.tokens = derive(key, "client tokens")
        self.cookies = derive(key, "console tickets")
        self.check = derive(key, "key check")
        self.ledger = derive(key, "deletion ledger")
        self.receipts = derive(key, "deletion receipts")


@dataclass(frozen=True, slots=True)
class _Held:
    """All keys, replaced as a whole: threads read it without a lock."""

    keys: ServiceKeys
    present: PurposeKeys
    prepared: PurposeKeys | None
    former: tuple[tuple[FormerKey, PurposeKeys], ...]

    @classmethod
    def of(cls, keys: ServiceKeys) -> _Held:
        return cls(
            keys,
            PurposeKeys(keys.present),
            None if keys.prepared is None else PurposeKeys(keys.prepared),
            tuple((one, PurposeKeys(one.key)) for one in keys.former if one.key != keys.present),
        )

    def unfinished(self) -> Iterator[PurposeKeys]:
        """Yield the keys that rows and secrets may be under: of a rotation that is not finished."""
        yield self.present
        yield from (own for one, own in self.former if one.replaced_at is None)

    def since(self, lifetime: timedelta, now: datetime, *, trusted: bool = False) -> Iterator[PurposeKeys]:
        """Yield the present key and those that were replaced less than `lifetime` ago."""
        yield self.present
        for one, own in self.former:
            recent = one.replaced_at is None or now - one.replaced_at < lifetime
            if recent and (one.tokens_accepted or not trusted):
                yield own


class ServiceSecret:
    """The service's own key: seals access-key secrets, page tokens and cookies, hashes client tokens.

    Safe for several threads. With a source, a rotation by another process takes effect at the next use.
    """

    def __init__(
        self,
        keys: bytes | ServiceKeys,
        source: KeySource | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._held = _Held.of(ServiceKeys(present=keys) if isinstance(keys, bytes) else keys)
        self._source, self._clock = source, clock

    # --- the keys

    @property
    def keys(self) -> ServiceKeys:
        """The keys as they are now."""
        return self._now().keys

    @property
    def key_id(self) -> str:
        """The name of the present key."""
        return service_key_id(self._now().keys.present)

    def _now(self) -> _Held:
        renewed = None if self._source is None else self._source.renewed()
        if renewed is not None:
            self._held = _Held.of(renewed)
        return self._held

    def _again(self) -> _Held:
        """Read the files of the keys, before something is refused."""
        found = None if self._source is None else self._source.read()
        if found is not None and found != self._held.keys:
            self._held = _Held.of(found)
        return self._held

    def _promoted(self) -> _Held:
        """Use the prepared key from now on: something made with it shows that the switch was made."""
        if self._source is not None:
            self._source.promote()
        return self._again()

    def accept_prepared(self) -> None:
        """Use the prepared key from now on, for one that the database says is in use."""
        self._again()
        self._promoted()

    # --- rows and the ledger

    @property
    def row_mac_key(self) -> bytes:
        """What the MACs of the database's rows are made with."""
        return self._now().present.rows

    def row_mac_keys(self) -> tuple[bytes, ...]:
        """Return the keys whose MACs are accepted, that of new MACs first."""
        return tuple(own.rows for own in self._now().unfinished())

    def prepared_row_mac_key(self) -> bytes | None:
        """Return the key of MACs that another host may make already, which the files are read for again."""
        held = self._again()
        return None if held.prepared is None else held.prepared.rows

    @property
    def ledger_key(self) -> bytes:
        """Key of the hashes in the deletion ledger."""
        return self._now().present.ledger

    def ledger_keys(self) -> tuple[tuple[bytes, ...], bytes | None]:
        """Return the ledger's keys of all service keys, the present one's last, and a prepared one's."""
        held = self._now()
        known = (*(own.ledger for _, own in reversed(held.former)), held.present.ledger)
        return known, None if held.prepared is None else held.prepared.ledger

    @property
    def receipt_seed(self) -> bytes:
        """Private key of deletion receipts (Ed25519, RFC 8032)."""
        return self._now().present.receipts

    @property
    def former_receipt_seeds(self) -> tuple[bytes, ...]:
        """The private keys of receipts of former service keys, the latest first."""
        return tuple(own.receipts for _, own in self._now().former)

    # --- the audit trail

    @property
    def audit_root(self) -> bytes:
        """The key from which those of the audit trail are derived, unless the operator keeps one."""
        return self._now().present.audit

    @property
    def former_audit_roots(self) -> tuple[bytes, ...]:
        """The same of former service keys, which sealed earlier lines; the latest first."""
        return tuple(own.audit for _, own in self._now().former)

    def audit_row_keys(self) -> tuple[bytes, ...]:
        """Return the keys of the codes of the chains' rows that are accepted, that of new ones first."""
        return tuple(own.audit for own in self._now().unfinished())

    # --- checks

    def seal_check(self) -> bytes:
        """Return a check value that only this key opens and that does not reveal it."""
        return seal_value(self._now().present.check, b"", b"service key")

    def opens_check(self, sealed: bytes) -> bool:
        """Return whether `seal_check` of this key made it."""
        return _opens(self._held.present.check, sealed)

    def prepared_opens_check(self, sealed: bytes) -> bool:
        """Return whether the prepared key made it."""
        return self._held.prepared is not None and _opens(self._held.prepared.check, sealed)

    def seal_binding(self, declaration: bytes) -> bytes:
        """Seal the record of which rows are bound by MACs."""
        return seal_value(self._now().present.binding, declaration, b"bound rows")

    def open_binding(self, sealed: bytes) -> bytes:
        """Open what `seal_binding` has sealed. Raises SealBroken."""
        return self._open((own.binding for own in self._now().unfinished()), sealed, b"bound rows")

    def seal_rotation(self, record: Mapping[str, Any]) -> bytes:
        """Seal the record of a rotation."""
        return seal_value(self._now().present.rotation, json.dumps(record).encode(), b"rotation")

    def open_rotation(self, sealed: bytes) -> dict[str, Any]:
        """Open what `seal_rotation` has sealed. Raises SealBroken."""
        found: dict[str, Any] = json.loads(open_value(self._now().present.rotation, sealed, b"rotation"))
        return found

    # --- access keys, page tokens, cookies

    def seal_access_secret(self, access_key_id: str, secret: str) -> bytes:
        return seal_value(self._now().present.access, secret.encode(), access_key_id.encode())

    def open_access_secret(self, access_key_id: str, sealed: bytes) -> str:
        """Open the secret of an access key. Raises SealBroken."""
        aad = access_key_id.encode()
        try:
            return open_value(self._held.present.access, sealed, aad).decode()
        except SealBroken:
            keys = [own.access for own in self._now().unfinished()]
            if (prepared := self._again().prepared) is not None:
                keys.append(prepared.access)
            return self._open(keys, sealed, aad).decode()

    def is_present_access_secret(self, access_key_id: str, sealed: bytes) -> bool:
        """Return whether the secret of an access key is sealed under the present key."""
        return _opens(self._now().present.access, sealed, access_key_id.encode())

    def seal_page(self, scope: str, position: bytes) -> bytes:
        return seal_value(self._now().present.pages, position, scope.encode())

    def open_page(self, scope: str, token: bytes) -> bytes:
        """Open the position of a page token. Raises SealBroken."""
        return self._open((own.pages for own in self._accepted()), token, scope.encode())

    def seal_cookie(self, content: bytes) -> bytes:
        return seal_value(self._now().present.cookies, content, b"ticket")

    def open_cookie(self, sealed: bytes) -> bytes:
        """Open the content of a cookie. Raises SealBroken."""
        return self._open((own.cookies for own in self._accepted()), sealed, b"ticket")

    def _accepted(self) -> Iterator[PurposeKeys]:
        """Yield the keys whose tokens are accepted."""
        held = self._now()
        yield from held.since(TOKENS_LIFETIME, self._clock(), trusted=True)
        if (prepared := self._again().prepared) is not None:
            yield prepared

    def _open(self, keys: Iterable[bytes], sealed: bytes, aad: bytes) -> bytes:
        broken = SealBroken("sealed value: bound to no key of the service")
        for key in keys:
            try:
                return open_value(key, sealed, aad)
            except SealBroken as fault:
                broken = fault
        raise broken

    # --- hashes

    def fingerprint(self, value: Mapping[str, Any] | str) -> str:
        """Return a keyed hash of 64 hex digits of a text or a JSON-like request."""
        return lookup_hash(self._now().present.tokens, _text(value)).hex()

    def fingerprints(self, value: Mapping[str, Any] | str) -> tuple[str, ...]:
        """Return the hashes that stored ones of a value may have, the present key's first.

        The order is that of the keys, the same for every value.
        """
        held, text = self._now(), _text(value)
        keys = [own.tokens for own in held.since(HASHES_LIFETIME, self._clock())]
        if held.prepared is not None:
            keys.append(held.prepared.tokens)
        return tuple(lookup_hash(key, text).hex() for key in keys)


def _text(value: Mapping[str, Any] | str) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def _opens(key: bytes, sealed: bytes, aad: bytes = b"service key") -> bool:
    try:
        open_value(key, sealed, aad)
    except SealBroken:
        return False
    return True
