"""Sonant's own keys: one small file a key, wrapped data keys bound to their encryption context.

    wrapped data key = magic 4 | key id 16 | nonce 12 | AES-256-GCM(data key 32) + tag 16
    additional data  = magic | key id | canonical encryption context

Several processes use the folder at once. Every use asks the file system for the version of the key's file, so
that a key that another process disabled or destroyed is refused from the next use on.
"""

from __future__ import annotations

import builtins
import secrets
import time
import uuid
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from sonant.errors import KeyNotFound, KeysUnreachable, KeyUnusable, SealBroken, SetupError
from sonant.storage.keys.expiring import ExpiringItems
from sonant.storage.keys.folder import MAX_ROTATIONS, KeyFile, KeyFolder, check_alias
from sonant.storage.keys.material import (
    KEY_BYTES,
    CachingMaterial,
    FileMaterial,
    KeyCipher,
    KeyMaterial,
)
from sonant.storage.keys.store import (
    DataKey,
    KeyBackEnd,
    KeyInfo,
    KeyState,
    canonical_context,
    printable,
)
from sonant.storage.private_folder import Stamp, Wrapping

#: How long a key is held in memory before its file is read again, in seconds. A use checks the file's version
#: in any case, and a thread four times a second, so that a key that another process disabled leaves the
#: memory of an idle one.
MEMORY_S = 5.0
MAX_KEYS_IN_MEMORY = 1024

_MAGIC = b"SNK\x01"
_ID_END, _NONCE_END, _WRAPPED_BYTES = 20, 32, 80
_DESCRIPTION_MAX_CHARACTERS = 8192
_DELETION_DAYS = range(7, 31)

BACK_END = KeyBackEnd(material=lambda _settings: FileMaterial())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """A key that was read. Holds ciphers, not the material; none while the key may not be used."""

    stamp: Stamp
    state: KeyState
    description: str
    created_at: datetime
    deletion_date: datetime | None
    ciphers: tuple[KeyCipher, ...] = field(repr=False)
    """Of the present material, and of those that rotations have replaced."""
    objects: tuple[bytes, ...] = ()
    """Of a key in a token: the ids of its objects there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLoss:
    """A key that is needed and missing."""

    key_id: str
    in_token: bool
    """Whether its file exists and the token does not hold its material."""
    folder: Path
    """The folder that lacks the key's file."""


class LocalKeyStore:
    """A `KeyStore` in a folder, with the administration of its keys.

    Faults of the folder (permissions, damaged files, a full disk) raise SetupError, which says what to do.
    """

    def __init__(
        self,
        folder: Path,
        *,
        region: str,
        account: str,
        clock: Callable[[], datetime],
        material: KeyMaterial | None = None,
        wrapping: Wrapping | None = None,
    ) -> None:
        """`material`: by default it is in the files of the folder. `wrapping` encrypts these files."""
        self._folder = KeyFolder(folder, region=region, account=account, wrapping=wrapping)
        self._clock = clock
        self._material: KeyMaterial = material or FileMaterial()
        self._keys: ExpiringItems[_Key] = ExpiringItems(MEMORY_S, MAX_KEYS_IN_MEMORY, is_good=self._may_stay)
        # What `describe` tells, without ciphers: looking at a key must not keep its material in memory.
        self._facts: dict[str, _Key] = {}
        self._owners: dict[bytes, str] = {}
        """By object in a token: the key that it belongs to."""
        if isinstance(self._material, CachingMaterial):
            self._material.forget_when(self._is_revoked)

    @property
    def ciphers_in_memory(self) -> int:
        """How many ciphers, each with its key's material, this store holds now."""
        return sum(len(key.ciphers) for key in self._keys.values())

    # --- use

    def describe(self, ref: str) -> KeyInfo:
        key_id = self._folder.resolve(ref)
        return self._info(key_id, self._described(key_id))

    def generate_data_key(self, ref: str, context: Mapping[str, str]) -> DataKey:
        key_id = self._folder.resolve(ref)
        plaintext = secrets.token_bytes(KEY_BYTES)
        return DataKey(plaintext=plaintext, wrapped=self._wrap(key_id, plaintext, context), key_id=key_id)

    def key_of(self, wrapped: bytes) -> str:
        return self._folder.arn(_wrapping_key(wrapped))

    def decrypt(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        key_id = _wrapping_key(wrapped)
        key = self._usable(key_id)
        for cipher in key.ciphers:
            if (plaintext := _unwrapped(cipher, wrapped, context)) is not None:
                return plaintext
        raise SealBroken(f"data key under key {key_id}: altered, or bound to another encryption context")

    def re_wrap(self, wrapped: bytes, context: Mapping[str, str], ref: str) -> bytes:
        return self._wrap(self._folder.resolve(ref), self.decrypt(wrapped, context), context)

    def grant(self, ref: str, context: Mapping[str, str]) -> None:
        """Do nothing: the keys of this folder are the service's own."""

    def retire(self, ref: str, context: Mapping[str, str]) -> None:
        """Do nothing, as `grant`."""

    # --- administration

    def create(self, description: str = "", alias: str | None = None) -> KeyInfo:
        """Make an enabled key. Raises SetupError for an alias that is malformed or taken."""
        if len(description) > _DESCRIPTION_MAX_CHARACTERS:
            raise SetupError(f"a key's description has at most {_DESCRIPTION_MAX_CHARACTERS} characters")
        with self._folder.locked():
            if alias is not None:
                self._check_free(alias)
            key_id = str(uuid.uuid4())
            self._folder.write(
                KeyFile(
                    key_id=key_id,
                    state="Enabled",
                    description=description,
                    created_at=self._clock(),
                    deletion_date=None,
                    material=self._material.make(key_id),
                    in_token=self._material.in_token,
                )
            )
            if alias is not None:
                self._folder.write_aliases({**self._folder.aliases(), alias: key_id})
        return self.describe(key_id)

    def list(self) -> builtins.list[KeyInfo]:
        """Return all keys, oldest first."""
        found = []
        for key_id in self._folder.key_ids():
            try:
                found.append(self._info(key_id, self._described(key_id)))
            except KeyNotFound:  # destroyed since the folder was read
                continue
        return sorted(found, key=lambda info: (info.created_at, info.key_id))

    def create_alias(self, alias: str, ref: str) -> None:
        """Name a key. Raises KeyNotFound, and SetupError for an alias that is malformed or taken."""
        with self._folder.locked():
            self._check_free(alias)
            key_id = self._folder.resolve(ref)
            self._key(key_id)
            self._folder.write_aliases({**self._folder.aliases(), alias: key_id})

    def delete_alias(self, alias: str) -> None:
        """Delete an alias and keep its key. Raises KeyNotFound when there is no such alias."""
        with self._folder.locked():
            known = dict(self._folder.aliases())
            if known.pop(alias, None) is None:
                raise KeyNotFound(f"alias {printable(alias)} does not exist")
            self._folder.write_aliases(known)

    def disable(self, ref: str) -> KeyInfo:
        """Refuse every use until `enable`. Raises KeyNotFound, and KeyUnusable when pending deletion."""
        return self._change(ref, state="Disabled")

    def enable(self, ref: str) -> KeyInfo:
        """Allow the use of a key again. Raises KeyNotFound, and KeyUnusable when pending deletion."""
        return self._change(ref, state="Enabled")

    def schedule_deletion(self, ref: str, days: int) -> KeyInfo:
        """Refuse every use from now on, and destroy the material after 7 to 30 days.

        Raises KeyNotFound, KeyUnusable when already pending, SetupError for another number of days.
        """
        if days not in _DELETION_DAYS:
            raise SetupError(f"a key is deleted after 7 to 30 days, not {days}")
        return self._change(ref, state="PendingDeletion", deletion_date=self._clock() + timedelta(days=days))

    def cancel_deletion(self, ref: str) -> KeyInfo:
        """Keep the key, disabled as with AWS KMS. Raises KeyNotFound, SetupError when not pending."""
        with self._folder.locked():
            key_id = self._folder.resolve(ref)
            if self._key(key_id).state != "PendingDeletion":
                raise SetupError(f"key {key_id} is not pending deletion")
            self._folder.write(replace(self._read(key_id)[1], state="Disabled", deletion_date=None))
        return self.describe(key_id)

    def rotate(self, ref: str) -> KeyInfo:
        """Make new material, which wraps from now on; the earlier material stays and opens the rest.

        Raises KeyNotFound, KeyUnusable unless enabled, SetupError after too many rotations.
        """
        with self._folder.locked():
            key_id = self._folder.resolve(ref)
            self._usable(key_id)
            file = self._read(key_id)[1]
            if len(file.earlier) >= MAX_ROTATIONS:
                raise SetupError(
                    f"key {key_id} was rotated {MAX_ROTATIONS} times: forget earlier material first"
                )
            earlier = (file.material, *file.earlier)
            self._folder.write(replace(file, material=self._material.make(key_id), earlier=earlier))
        return self.describe(key_id)

    def forget_earlier(self, ref: str) -> int:
        """Destroy earlier material and return how many there were. What only they open is lost."""
        with self._folder.locked():
            key_id = self._folder.resolve(ref)
            file = self._read(key_id)[1]
            if file.earlier:
                self._material.destroy(file.earlier)
                self._folder.write(replace(file, earlier=()), overwrite=True)
        return len(file.earlier)

    def is_current(self, wrapped: bytes, context: Mapping[str, str]) -> bool:
        """Return whether the present material opens it. Raises KeyNotFound, KeyUnusable, SealBroken."""
        return _unwrapped(self._usable(_wrapping_key(wrapped)).ciphers[0], wrapped, context) is not None

    def purge_due(self) -> builtins.list[str]:
        """Destroy keys whose deletion date has passed, with their aliases, and return their ids.

        A damaged key file or an unreachable token does not stop the others: it is raised (SetupError,
        KeysUnreachable) when all are done.
        """
        destroyed: builtins.list[str] = []
        error: SetupError | KeysUnreachable | None = None
        with self._folder.locked():
            for key_id in self._folder.key_ids():
                try:
                    key = self._read(key_id)[1]
                except SetupError as fault:
                    error = fault
                    continue
                if self._due(key.deletion_date):
                    try:
                        self._material.destroy((key.material, *key.earlier))
                    except KeysUnreachable as fault:
                        error = fault
                        continue
                    self._folder.destroy(key_id)
                    self._keys.pop(key_id)
                    destroyed.append(key_id)
            known = self._folder.aliases()
            existing = {alias: key_id for alias, key_id in known.items() if self._exists(key_id)}
            if existing != known:
                self._folder.write_aliases(existing)
        if error:
            raise error
        return destroyed

    def write_again(self, *, plain: bool = False) -> int:
        """Write all files of keys as the wrapping has it now, or not encrypted, and destroy what was there.

        Returns how many.
        """
        with self._folder.locked():
            found = self._folder.key_ids()
            for key_id in found:
                self._folder.write(self._folder.read(key_id)[1], overwrite=True, plain=plain)
        return len(found)

    def check(self) -> None:
        """Raise KeysUnreachable when the folder is gone, SetupError when it is open to other users."""
        self._folder.check()

    # --- loss

    def loss(self, wrapped: bytes, context: Mapping[str, str]) -> KeyLoss | None:
        """Return the lost key without which a data key cannot be opened, or None.

        None for a key that is disabled or was destroyed on purpose, and while a token is unreachable. Raises
        SetupError for a damaged key file, SealBroken for a data key of another key store.
        """
        key_id = _wrapping_key(wrapped)
        if self._folder.stamp(key_id) is None:
            if key_id in self._folder.destroyed():
                return None
            return KeyLoss(key_id=key_id, in_token=False, folder=self._folder.path)
        file = self._read(key_id)[1]
        if file.in_token and not self._due(file.deletion_date):
            try:
                self.decrypt(wrapped, context)
            except KeyNotFound:
                return KeyLoss(key_id=key_id, in_token=True, folder=self._folder.path)
            except (KeyUnusable, KeysUnreachable, SealBroken):
                return None
        return None

    def accept_loss(self, ref: str) -> str:
        """Record a missing key as destroyed and return its id. What it seals opens again if it is put back.

        Raises KeyNotFound for a `ref` that is no key's id, SetupError for a key that exists.
        """
        with self._folder.locked():
            key_id = self._folder.resolve(ref)
            if self._folder.stamp(key_id) is not None:
                raise SetupError(f"key {key_id} exists: nothing is lost")
            self._folder.record_destroyed(key_id)
        return key_id

    # --- keys

    def _key(self, key_id: str) -> _Key:
        """Return the key as it is now. Raises KeyNotFound, also when its deletion is due."""
        self._folder.check()
        stamp = self._folder.stamp(key_id)
        key = self._keys.get(key_id)
        if stamp is None or key is None or key.stamp != stamp:
            self._keys.pop(key_id)
            read_s = time.monotonic()
            stamp, file = self._read(key_id)
            key = self._known(stamp, file)
            self._keys.put(key_id, key, read_s)
        self._require_kept(key_id, key)
        return key

    def _described(self, key_id: str) -> _Key:
        """Return the key as it is now, without its ciphers. Raises KeyNotFound as `_key`."""
        self._folder.check()
        key, stamp = self._facts.get(key_id), self._folder.stamp(key_id)
        if key is None or stamp is None or key.stamp != stamp:
            self._facts.pop(key_id, None)
            held = self._keys.get(key_id)
            if held is not None and held.stamp != stamp:
                self._keys.pop(key_id)
            key = self._facts[key_id] = replace(self._known(*self._read(key_id)), ciphers=())
        self._require_kept(key_id, key)
        return key

    def _known(self, stamp: Stamp, file: KeyFile) -> _Key:
        materials = (file.material, *file.earlier)
        if file.in_token:
            self._owners.update(dict.fromkeys(materials, file.key_id))
        return _Key(
            stamp=stamp,
            state=file.state,
            description=file.description,
            created_at=file.created_at,
            deletion_date=file.deletion_date,
            ciphers=tuple(self._material.cipher(one) for one in materials) if file.state == "Enabled" else (),
            objects=materials if file.in_token else (),
        )

    def _require_kept(self, key_id: str, key: _Key) -> None:
        """Raise KeyNotFound when the deletion is due."""
        if self._due(key.deletion_date):
            self._keys.pop(key_id)
            raise KeyNotFound(f"key {key_id} was deleted")

    def _may_stay(self, key_id: Hashable, key: _Key) -> bool:
        """Return whether a key in memory is as its file says."""
        try:
            return self._folder.stamp(str(key_id)) == key.stamp and not self._due(key.deletion_date)
        except (SetupError, KeysUnreachable):
            return False

    def _is_revoked(self, stored: bytes) -> bool:
        """Return whether an object in a token may not be used any more; False for one of another store."""
        key_id = self._owners.get(stored)
        if key_id is None:
            return False
        try:
            key = self._described(key_id)
        except (KeyNotFound, KeysUnreachable, SetupError):
            return True
        return key.state != "Enabled" or stored not in key.objects

    def _usable(self, key_id: str) -> _Key:
        key = self._key(key_id)
        if key.state != "Enabled":
            raise KeyUnusable(f"key {key_id} is {_STATE_TEXTS[key.state]}")
        return key

    def _wrap(self, key_id: str, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        head = _MAGIC + uuid.UUID(key_id).bytes
        # 2**32 data keys a key are safe with random nonces (NIST SP 800-38D, 8.3).
        nonce = secrets.token_bytes(_NONCE_END - _ID_END)
        sealed = self._usable(key_id).ciphers[0].encrypt(nonce, plaintext, head + canonical_context(context))
        return head + nonce + sealed

    def _read(self, key_id: str) -> tuple[Stamp, KeyFile]:
        """Read a key's file. Raises KeyNotFound, and SetupError for a key of another kind of material."""
        stamp, file = self._folder.read(key_id)
        if file.in_token != self._material.in_token:
            raise SetupError(
                f"key {key_id} is {'' if file.in_token else 'not '}in a PKCS#11 token: "
                f"set `keys` to {'pkcs11' if file.in_token else 'local'}"
            )
        return stamp, file

    def _change(self, ref: str, *, state: KeyState, deletion_date: datetime | None = None) -> KeyInfo:
        with self._folder.locked():
            key_id = self._folder.resolve(ref)
            if self._key(key_id).state == "PendingDeletion":
                raise KeyUnusable(f"key {key_id} is pending deletion: cancel the deletion first")
            self._folder.write(replace(self._read(key_id)[1], state=state, deletion_date=deletion_date))
        return self.describe(key_id)

    def _info(self, key_id: str, key: _Key) -> KeyInfo:
        return KeyInfo(
            key_id=key_id,
            arn=self._folder.arn(key_id),
            state=key.state,
            description=key.description,
            created_at=key.created_at,
            deletion_date=key.deletion_date,
            aliases=tuple(sorted(a for a, k in self._folder.aliases().items() if k == key_id)),
            symmetric=True,
        )

    def _check_free(self, alias: str) -> None:
        check_alias(alias)
        if (key_id := self._folder.aliases().get(alias)) and self._exists(key_id):
            raise SetupError(f"alias {alias} is taken: delete it first, or choose another name")

    def _exists(self, key_id: str) -> bool:
        """Return whether the key exists, damaged or not."""
        with suppress(SetupError):
            try:
                self._key(key_id)
            except KeyNotFound:
                return False
        return True

    def _due(self, deletion_date: datetime | None) -> bool:
        return deletion_date is not None and deletion_date <= self._clock()


_STATE_TEXTS: Mapping[str, str] = {"Disabled": "disabled", "PendingDeletion": "pending deletion"}


@lru_cache(maxsize=1024)
def _wrapping_key(wrapped: bytes) -> str:
    """Return the id of the key that wraps a data key. Raises SealBroken."""
    if len(wrapped) != _WRAPPED_BYTES or wrapped[: len(_MAGIC)] != _MAGIC:
        raise SealBroken("not a data key wrapped by a local key store")
    return str(uuid.UUID(bytes=wrapped[len(_MAGIC) : _ID_END]))


def _unwrapped(cipher: KeyCipher, wrapped: bytes, context: Mapping[str, str]) -> bytes | None:
    """Return a data key, or None when this cipher did not wrap it for this context."""
    aad = wrapped[:_ID_END] + canonical_context(context)
    return cipher.decrypt(wrapped[_ID_END:_NONCE_END], wrapped[_NONCE_END:], aad)
