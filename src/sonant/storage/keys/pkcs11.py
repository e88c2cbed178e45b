"""Keys whose material lives in a PKCS#11 token (a hardware security module) and never leaves it.

    object in the token: secret key, AES 256, CKA_LABEL = key id, CKA_ID = 32 random bytes, sensitive, not
    extractable; the key's file in the data folder holds the CKA_ID

Data keys are wrapped by the token's CKM_AES_GCM. One session, one call at a time, for all
stores of a process: a login, and the start and end of the module, are the process's.

The library `pkcs11` is imported when the token is first used.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sonant.errors import KeyNotFound, KeysUnreachable, SetupError, SonantError
from sonant.settings import Pkcs11
from sonant.storage.keys.key_file import KEY_BYTES
from sonant.storage.keys.material import KeyCipher
from sonant.storage.keys.opened import OpenedKeys

_T = TypeVar("_T")
_TAG_BITS = 128
_PIN_MAX_BYTES = 1024
#: A token that could not be opened is left alone for so long, so that calls do not queue up before it.
_PAUSE_S = 1.0

_log = logging.getLogger(__name__)
#: The library's start and end concern every session of the process.
_turn = threading.RLock()


def token_material(settings: Pkcs11, cache_s: float) -> TokenMaterial:
    """Raises SetupError for settings that lack something; the token itself is opened when it is used."""
    for name in ("module", "token"):
        if not getattr(settings, name):
            raise SetupError(f'keys = "pkcs11" needs the setting pkcs11.{name}')
    if bool(settings.pin) == bool(settings.pin_file):
        raise SetupError("set one of pkcs11.pin and pkcs11.pin_file")
    if importlib.util.find_spec("pkcs11") is None:
        raise SetupError('keys = "pkcs11" needs the extra of that name: pip install "sonant[pkcs11]"')
    return TokenMaterial(_token(settings), cache_s)


class TokenMaterial:
    """A `KeyMaterial` in a token. Safe for several threads."""

    in_token = True

    def __init__(self, token: Token, cache_s: float) -> None:
        """`cache_s`: how long an opened data key serves before the token is asked again."""
        self._token, self._opened = token, OpenedKeys(cache_s)

    def make(self, key_id: str) -> bytes:
        kept = secrets.token_bytes(KEY_BYTES)
        self._token.make(key_id, kept)
        return kept

    def cipher(self, kept: bytes) -> KeyCipher:
        return _TokenCipher(self._token, self._opened, kept)

    def destroy(self, kept: Iterable[bytes]) -> None:
        for one in kept:
            self._token.destroy(one)


class _Foreign(Exception):
    """The token did not encrypt this; nothing to hold."""


class _TokenCipher:
    __slots__ = ("_kept", "_opened", "_token")

    def __init__(self, token: Token, opened: OpenedKeys, kept: bytes) -> None:
        self._token, self._opened, self._kept = token, opened, kept

    def encrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes:
        return self._token.encrypt(self._kept, nonce, data, bound)

    def decrypt(self, nonce: bytes, data: bytes, bound: bytes) -> bytes | None:
        def ask() -> bytes:
            found = self._token.decrypt(self._kept, nonce, data, bound)
            if found is None:
                raise _Foreign
            return found

        try:
            return self._opened.get((self._kept, nonce, data, bound), ask)
        except _Foreign:
            return None


class Token:
    """One token of one module. Every method raises KeysUnreachable when the token does not do its work, and
    those that use a key KeyNotFound when the token holds none of that name."""

    def __init__(self, settings: Pkcs11) -> None:
        self._settings = settings
        self._session: Any = None
        self._process = 0
        self._refused_pin = ""
        self._closed_until = 0.0

    def make(self, label: str, kept: bytes) -> None:
        """A new key."""

        def work(session: Any) -> None:
            import pkcs11

            session.generate_key(
                pkcs11.KeyType.AES,
                8 * KEY_BYTES,
                id=kept,
                label=label,
                store=True,
                capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
                template={
                    pkcs11.Attribute.PRIVATE: True,
                    pkcs11.Attribute.SENSITIVE: True,
                    pkcs11.Attribute.EXTRACTABLE: False,
                    pkcs11.Attribute.MODIFIABLE: False,
                },
            )

        self._do(work)

    def destroy(self, kept: bytes) -> None:
        """Destroy a key; no change if there is none."""

        def work(session: Any) -> None:
            _key(session, kept).destroy()

        try:
            self._do(work)
        except KeyNotFound:
            return

    def encrypt(self, kept: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes:
        return self._do(lambda session: _encrypted(_key(session, kept), nonce, data, bound))

    def decrypt(self, kept: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes | None:
        """None when this key did not encrypt it, or for another `bound`."""
        return self._do(lambda session: _decrypted(_key(session, kept), nonce, data, bound))

    def _do(self, work: Callable[[Any], _T]) -> _T:
        """Try once; what fails is tried again in a fresh session, since the fault may be the old one's."""
        with _turn:
            if (
                self._session is not None and self._process != os.getpid()
            ):  # a session does not outlive a fork
                self._close()
            fresh = self._session is None
            if fresh:
                self._open()
            found, fault = self._tried(work)
            if fault is not None and not fresh:
                self._close()
                self._open()
                found, fault = self._tried(work)
            if fault is None:
                return found[0]
            if not isinstance(fault, KeyNotFound):
                self._close()
            raise fault

    def _tried(self, work: Callable[[Any], _T]) -> tuple[list[_T], SonantError | None]:
        """The outcome as values: a living exception would keep handles of a session that is to end."""
        from pkcs11.exceptions import NoSuchKey, PKCS11Error

        try:
            return [work(self._session)], None
        except NoSuchKey:
            return [], KeyNotFound("the token does not hold the key's material")
        except PKCS11Error as fault:
            return [], KeysUnreachable(f"the PKCS#11 token cannot be used ({type(fault).__name__})")

    def _open(self) -> None:
        if time.monotonic() < self._closed_until:
            raise KeysUnreachable("the PKCS#11 token could not be opened a moment ago")
        reason = self._opening()
        if reason:
            self._close()
            self._closed_until = time.monotonic() + _PAUSE_S
            raise KeysUnreachable(f"the PKCS#11 token cannot be opened ({reason})")

    def _opening(self) -> str:
        """Open a session; else why there is none. Never with the PIN."""
        import pkcs11
        from pkcs11.exceptions import PinIncorrect, PinInvalid, PinLenRange, PinLocked, PKCS11Error

        try:
            pin = self._pin()
        except (OSError, UnicodeDecodeError) as fault:
            return f"pin_file: {type(fault).__name__}"
        if pin == self._refused_pin:  # tokens lock themselves after some wrong ones
            return "it refused this PIN before"
        try:
            library = pkcs11.lib(self._settings.module)
            token = library.get_token(token_label=self._settings.token)
            self._session = token.open(rw=True, user_pin=pin)
        except (PinIncorrect, PinInvalid, PinLenRange, PinLocked) as fault:
            self._refused_pin = pin
            return type(fault).__name__
        except PKCS11Error as fault:
            return type(fault).__name__
        except (OSError, RuntimeError):
            return "its module cannot be loaded"
        self._process, self._refused_pin = os.getpid(), ""
        return ""

    def _close(self) -> None:
        """Let go of the session and the library: some notice a token that is back only when started anew."""
        import pkcs11
        from pkcs11.exceptions import PKCS11Error

        self._session = None
        try:
            pkcs11.lib(self._settings.module).finalize()
        except (PKCS11Error, OSError, RuntimeError) as fault:
            _log.debug("PKCS#11 module not ended: %s", type(fault).__name__)

    def _pin(self) -> str:
        if self._settings.pin:
            return self._settings.pin
        with Path(self._settings.pin_file).open("rb") as file:
            return file.read(_PIN_MAX_BYTES).decode().strip("\r\n")


@cache
def _token(settings: Pkcs11) -> Token:
    return Token(settings)


def _key(session: Any, kept: bytes) -> Any:
    """Looked for at every use: a key destroyed by another process must not go on working."""
    import pkcs11

    return session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, id=kept)


def _encrypted(key: Any, nonce: bytes, data: bytes, bound: bytes) -> bytes:
    import pkcs11

    parameters = pkcs11.GCMParams(nonce, bound, _TAG_BITS)
    return bytes(key.encrypt(data, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters))


def _decrypted(key: Any, nonce: bytes, data: bytes, bound: bytes) -> bytes | None:
    import pkcs11
    from pkcs11.exceptions import EncryptedDataInvalid, EncryptedDataLenRange, FunctionFailed, GeneralError

    parameters = pkcs11.GCMParams(nonce, bound, _TAG_BITS)
    try:
        return bytes(key.decrypt(data, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters))
    except (EncryptedDataInvalid, EncryptedDataLenRange):
        return None
    except (GeneralError, FunctionFailed):
        # Some tokens say no more than this of a wrong tag. One that opens what it has just sealed works.
        probe = pkcs11.GCMParams(secrets.token_bytes(len(nonce)), b"", _TAG_BITS)
        sealed = key.encrypt(bytes(16), mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=probe)
        if key.decrypt(sealed, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=probe) != bytes(16):
            raise
        return None
