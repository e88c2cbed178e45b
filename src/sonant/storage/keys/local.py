"""Keys of our own: one small file a key, wrapped data keys bound to their encryption context.

    <folder>/<key id>.json     state of one key, and its material or what the material is called in a token
    <folder>/aliases.json      alias -> key id
    <folder>/destroyed.json    ids of keys that are gone on purpose: any other that is missing was lost

    wrapped data key = magic 4 | key id 16 | nonce 12 | AES-256-GCM(data key 32) + tag 16
    additional data  = magic | key id | canonical encryption context

Several processes use the folder at once. Every use asks the file system for the version of the key file, so
that a key disabled or destroyed by another process refuses from the next use on.
"""

from __future__ import annotations

import builtins
import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from sonant.errors import KeyNotFound, KeysUnreachable, KeyUnusable, SealBroken, SetupError
from sonant.storage.keys.key_file import KEY_BYTES, MAX_BYTES, MOST_EARLIER, KeyFile, dump, parse
from sonant.storage.keys.material import FileMaterial, KeyCipher, KeyMaterial
from sonant.storage.keys.names import KEY_ID, KeyNames, check_alias, shown
from sonant.storage.keys.store import DataKey, KeyInfo, KeyState
from sonant.storage.private_folder import PrivateFolder, Stamp

_MAGIC = b"SNK\x01"
_ID_END, _NONCE_END, _WRAPPED_BYTES = 20, 32, 80
_DESCRIPTION_MAX_CHARACTERS = 8192
_DELETION_DAYS = range(7, 31)
_DESTROYED = "destroyed.json"
_DESTROYED_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """A key file in use. Holds the cipher, not the material."""

    stamp: Stamp
    state: KeyState
    description: str
    created_at: datetime
    deletion_date: datetime | None
    cipher: KeyCipher = field(repr=False)
    earlier: tuple[KeyCipher, ...] = field(repr=False)
    """Of what the material was before it was rotated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLoss:
    """A key that is needed and not there."""

    key_id: str
    in_token: bool
    """Its file is there, and the token that it names does not hold its material."""
    folder: Path
    """Where the key's file is to be."""


class LocalKeyStore:
    """A key store in a folder; see `KeyStore` for the errors of its four common methods.

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
    ) -> None:
        """`material` is in the files of the folder, if nothing else is said."""
        self._folder = PrivateFolder(folder)
        self._names = KeyNames(self._folder, region=region, account=account)
        self._clock = clock
        self._material: KeyMaterial = material or FileMaterial()
        self._keys: dict[str, _Key] = {}

    # --- use

    def describe(self, ref: str) -> KeyInfo:
        key_id = self._names.resolve(ref)
        return self._info(key_id, self._key(key_id))

    def generate_data_key(self, ref: str, context: Mapping[str, str]) -> DataKey:
        key_id = self._names.resolve(ref)
        plaintext = secrets.token_bytes(KEY_BYTES)
        return DataKey(plaintext=plaintext, wrapped=self._wrap(key_id, plaintext, context), key_id=key_id)

    def key_of(self, wrapped: bytes) -> str:
        return self._names.arn(_wrapping_key(wrapped))

    def decrypt(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        key_id = _wrapping_key(wrapped)
        key = self._usable(key_id)
        for cipher in (key.cipher, *key.earlier):
            if (opened := _opened(cipher, wrapped, context)) is not None:
                return opened
        raise SealBroken(f"data key under key {key_id}: altered, or bound to another encryption context")

    def re_wrap(self, wrapped: bytes, context: Mapping[str, str], ref: str) -> bytes:
        return self._wrap(self._names.resolve(ref), self.decrypt(wrapped, context), context)

    def grant(self, ref: str, context: Mapping[str, str]) -> None:
        """Nothing happens: the keys of this folder are the service's own."""

    def retire(self, ref: str, context: Mapping[str, str]) -> None:
        """Nothing happens, as with `grant`."""

    # --- administration

    def create(self, description: str = "", alias: str | None = None) -> KeyInfo:
        """A new enabled key. Raises SetupError for an alias that is malformed or taken."""
        if len(description) > _DESCRIPTION_MAX_CHARACTERS:
            raise SetupError(f"a key's description has at most {_DESCRIPTION_MAX_CHARACTERS} characters")
        with self._folder.locked():
            if alias is not None:
                self._check_free(alias)
            key_id = str(uuid.uuid4())
            self._write(
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
                self._names.write({**self._names.aliases(), alias: key_id})
        return self.describe(key_id)

    def list(self) -> builtins.list[KeyInfo]:
        """All keys, oldest first."""
        found = []
        for key_id in self._key_ids():
            try:
                found.append(self._info(key_id, self._key(key_id)))
            except KeyNotFound:  # destroyed since the folder was read
                continue
        return sorted(found, key=lambda info: (info.created_at, info.key_id))

    def create_alias(self, alias: str, ref: str) -> None:
        """Raises KeyNotFound, and SetupError for an alias that is malformed or taken."""
        with self._folder.locked():
            self._check_free(alias)
            key_id = self._names.resolve(ref)
            self._key(key_id)
            self._names.write({**self._names.aliases(), alias: key_id})

    def delete_alias(self, alias: str) -> None:
        """The key stays. Raises KeyNotFound when there is no such alias."""
        with self._folder.locked():
            known = dict(self._names.aliases())
            if known.pop(alias, None) is None:
                raise KeyNotFound(f"alias {shown(alias)} does not exist")
            self._names.write(known)

    def disable(self, ref: str) -> KeyInfo:
        """Every use refuses until `enable`. Raises KeyNotFound, and KeyUnusable when pending deletion."""
        return self._change(ref, state="Disabled")

    def enable(self, ref: str) -> KeyInfo:
        """Raises KeyNotFound, and KeyUnusable when pending deletion."""
        return self._change(ref, state="Enabled")

    def schedule_deletion(self, ref: str, days: int) -> KeyInfo:
        """Refuse every use from now on, and destroy the material in 7 to 30 days.

        Raises KeyNotFound, KeyUnusable when already pending, SetupError for another number of days.
        """
        if days not in _DELETION_DAYS:
            raise SetupError(f"a key is deleted after 7 to 30 days, not {days}")
        return self._change(ref, state="PendingDeletion", deletion_date=self._clock() + timedelta(days=days))

    def cancel_deletion(self, ref: str) -> KeyInfo:
        """The key stays, disabled (as with AWS KMS). Raises KeyNotFound, SetupError when not pending."""
        with self._folder.locked():
            key_id = self._names.resolve(ref)
            if self._key(key_id).state != "PendingDeletion":
                raise SetupError(f"key {key_id} is not pending deletion")
            self._write(replace(self._read(key_id)[1], state="Disabled", deletion_date=None))
        return self.describe(key_id)

    def rotate(self, ref: str) -> KeyInfo:
        """New material, under which everything is wrapped from now on; the earlier stays and opens the rest.

        Raises KeyNotFound, KeyUnusable unless enabled, SetupError after too many rotations.
        """
        with self._folder.locked():
            key_id = self._names.resolve(ref)
            self._usable(key_id)
            file = self._read(key_id)[1]
            if len(file.earlier) >= MOST_EARLIER:
                raise SetupError(
                    f"key {key_id} was rotated {MOST_EARLIER} times: forget earlier material first"
                )
            earlier = (file.material, *file.earlier)
            self._write(replace(file, material=self._material.make(key_id), earlier=earlier))
        return self.describe(key_id)

    def forget_earlier(self, ref: str) -> int:
        """Destroy earlier material: what it alone opens is lost. How many rotations it was of."""
        with self._folder.locked():
            key_id = self._names.resolve(ref)
            file = self._read(key_id)[1]
            if file.earlier:
                self._material.destroy(file.earlier)
                content = dump(replace(file, earlier=()))
                self._folder.replace(_file_name(key_id), content, overwrite=True)
        return len(file.earlier)

    def is_current(self, wrapped: bytes, context: Mapping[str, str]) -> bool:
        """Whether the key's present material opens it. Raises KeyNotFound, KeyUnusable, SealBroken."""
        return _opened(self._usable(_wrapping_key(wrapped)).cipher, wrapped, context) is not None

    def purge_due(self) -> builtins.list[str]:
        """Destroy the material of keys whose deletion date has passed, and their aliases; returns their ids.

        A damaged key file, or a token that is away, does not save the others: it is reported (SetupError,
        KeysUnreachable) when all are done.
        """
        destroyed: builtins.list[str] = []
        damaged: SetupError | KeysUnreachable | None = None
        with self._folder.locked():
            for key_id in self._key_ids():
                try:
                    key = self._read(key_id)[1]
                except SetupError as fault:
                    damaged = fault
                    continue
                if self._due(key.deletion_date):
                    try:
                        self._material.destroy((key.material, *key.earlier))
                    except KeysUnreachable as fault:
                        damaged = fault
                        continue
                    self._note_destroyed(key_id)  # before it is: a key that is missing unnoted was lost
                    self._folder.destroy(_file_name(key_id))
                    self._keys.pop(key_id, None)
                    destroyed.append(key_id)
            known = self._names.aliases()
            kept = {alias: key_id for alias, key_id in known.items() if self._exists(key_id)}
            if kept != known:
                self._names.write(kept)
        if damaged:
            raise damaged
        return destroyed

    def check(self) -> None:
        """Raises KeysUnreachable when the folder is gone, SetupError when it is open to others."""
        self._folder.check()

    # --- loss

    def loss(self, wrapped: bytes, context: Mapping[str, str]) -> KeyLoss | None:
        """The key without which a data key cannot be opened, though nobody wanted that.

        None for one that is disabled or was destroyed on purpose, and while a token is away, which tells
        nothing. Raises SetupError for a damaged key file, SealBroken for a data key of another key store.
        """
        key_id = _wrapping_key(wrapped)
        if self._folder.stamp(_file_name(key_id)) is None:
            if key_id in self._destroyed():
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
        """Count a key that is missing as destroyed; its id. What it seals opens again if it is put back.

        Raises KeyNotFound for what is no key's id, SetupError for a key that is there.
        """
        with self._folder.locked():
            key_id = self._names.resolve(ref)
            if self._folder.stamp(_file_name(key_id)) is not None:
                raise SetupError(f"key {key_id} is there: nothing is lost")
            self._note_destroyed(key_id)
        return key_id

    def _destroyed(self) -> builtins.list[str]:
        read = self._folder.read(_DESTROYED, _DESTROYED_MAX_BYTES)
        try:
            found = [] if read is None else json.loads(read[1])
            if not isinstance(found, list) or not all(KEY_ID.fullmatch(key_id) for key_id in found):
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            path = self._folder.path / _DESTROYED
            raise SetupError(f"file {path} is damaged: restore it from a backup") from None
        return found

    def _note_destroyed(self, key_id: str) -> None:
        """Needs the folder's lock."""
        known = self._destroyed()
        if key_id not in known:
            self._folder.replace(_DESTROYED, json.dumps([*known, key_id], indent=1).encode())

    # --- keys

    def _key(self, key_id: str) -> _Key:
        """The key as it is now. Raises KeyNotFound, also when its deletion is due."""
        self._folder.check()
        stamp = self._folder.stamp(_file_name(key_id))
        key = self._keys.get(key_id)
        if stamp is None or key is None or key.stamp != stamp:
            self._keys.pop(key_id, None)
            stamp, file = self._read(key_id)
            key = self._keys[key_id] = _Key(
                stamp=stamp,
                state=file.state,
                description=file.description,
                created_at=file.created_at,
                deletion_date=file.deletion_date,
                cipher=self._material.cipher(file.material),
                earlier=tuple(self._material.cipher(one) for one in file.earlier),
            )
        if key.deletion_date is not None and self._due(key.deletion_date):
            self._keys.pop(key_id, None)
            raise KeyNotFound(f"key {key_id} was deleted")
        return key

    def _usable(self, key_id: str) -> _Key:
        key = self._key(key_id)
        if key.state != "Enabled":
            raise KeyUnusable(f"key {key_id} is {_IN_WORDS[key.state]}")
        return key

    def _wrap(self, key_id: str, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        head = _MAGIC + uuid.UUID(key_id).bytes
        # 2**32 data keys a key are safe with random nonces (NIST SP 800-38D, 8.3).
        nonce = secrets.token_bytes(_NONCE_END - _ID_END)
        sealed = self._usable(key_id).cipher.encrypt(nonce, plaintext, head + _canonical(context))
        return head + nonce + sealed

    def _read(self, key_id: str) -> tuple[Stamp, KeyFile]:
        read = self._folder.read(_file_name(key_id), MAX_BYTES)
        if read is None:
            raise KeyNotFound(f"key {key_id} does not exist")
        try:
            stamp, file = read[0], parse(read[1], key_id)
        except ValueError as fault:
            if self._folder.stamp(_file_name(key_id)) is None:  # destroyed while it was read
                raise KeyNotFound(f"key {key_id} does not exist") from None
            raise SetupError(
                f"key file {self._folder.path / _file_name(key_id)} is damaged ({fault}): restore it from a "
                "backup; without it, what is sealed under the key stays unreadable"
            ) from None
        if file.in_token != self._material.in_token:
            raise SetupError(
                f"key {key_id} is {'' if file.in_token else 'not '}in a PKCS#11 token: "
                f"set `keys` to {'pkcs11' if file.in_token else 'local'}"
            )
        return stamp, file

    def _write(self, key: KeyFile) -> None:
        self._folder.replace(_file_name(key.key_id), dump(key))

    def _change(self, ref: str, *, state: KeyState, deletion_date: datetime | None = None) -> KeyInfo:
        with self._folder.locked():
            key_id = self._names.resolve(ref)
            if self._key(key_id).state == "PendingDeletion":
                raise KeyUnusable(f"key {key_id} is pending deletion: cancel the deletion first")
            self._write(replace(self._read(key_id)[1], state=state, deletion_date=deletion_date))
        return self.describe(key_id)

    def _info(self, key_id: str, key: _Key) -> KeyInfo:
        return KeyInfo(
            key_id=key_id,
            arn=self._names.arn(key_id),
            state=key.state,
            description=key.description,
            created_at=key.created_at,
            deletion_date=key.deletion_date,
            aliases=tuple(sorted(a for a, k in self._names.aliases().items() if k == key_id)),
            symmetric=True,
        )

    def _check_free(self, alias: str) -> None:
        check_alias(alias)
        if (key_id := self._names.aliases().get(alias)) and self._exists(key_id):
            raise SetupError(f"alias {alias} is taken: delete it first, or choose another name")

    def _exists(self, key_id: str) -> bool:
        try:
            self._key(key_id)
        except KeyNotFound:
            return False
        except SetupError:  # damaged is not gone
            return True
        return True

    def _key_ids(self) -> builtins.list[str]:
        stems = (name.removesuffix(".json") for name in self._folder.names(".json"))
        return [stem for stem in stems if KEY_ID.fullmatch(stem)]

    def _due(self, deletion_date: datetime | None) -> bool:
        return deletion_date is not None and deletion_date <= self._clock()


_IN_WORDS: Mapping[str, str] = {"Disabled": "disabled", "PendingDeletion": "pending deletion"}


@lru_cache(maxsize=1024)
def _wrapping_key(wrapped: bytes) -> str:
    """The id of the key that a data key is wrapped under. Raises SealBroken."""
    if len(wrapped) != _WRAPPED_BYTES or wrapped[: len(_MAGIC)] != _MAGIC:
        raise SealBroken("not a data key wrapped by a local key store")
    return str(uuid.UUID(bytes=wrapped[len(_MAGIC) : _ID_END]))


def _opened(cipher: KeyCipher, wrapped: bytes, context: Mapping[str, str]) -> bytes | None:
    """A data key, if it was wrapped by this cipher for this context."""
    bound = wrapped[:_ID_END] + _canonical(context)
    return cipher.decrypt(wrapped[_ID_END:_NONCE_END], wrapped[_NONCE_END:], bound)


def _file_name(key_id: str) -> str:
    return f"{key_id}.json"


def _canonical(context: Mapping[str, str]) -> bytes:
    """Equal for equal contexts and for no others: sorted, every text preceded by its length."""
    return _canonical_items(tuple(sorted(context.items())))


@lru_cache(maxsize=1024)
def _canonical_items(items: tuple[tuple[str, str], ...]) -> bytes:
    parts = [len(items).to_bytes(4, "big")]
    for pair in items:
        for text in pair:
            data = text.encode("utf-8", "surrogatepass")
            parts += (len(data).to_bytes(4, "big"), data)
    return b"".join(parts)
