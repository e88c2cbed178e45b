"""Keys whose material is in a PKCS#11 token (a hardware security module) and never leaves it.

    object in the token: secret key, AES 256, CKA_LABEL = key id, CKA_ID = 32 random bytes, sensitive, not
    extractable; the key's file in the data folder holds the CKA_ID

Data keys are wrapped by the token's CKM_AES_GCM. All stores of a process share one session, one call at a
time: a login, and the start and end of the module, belong to the process.

The library `pkcs11` is imported when the token is first used.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sonant.errors import KeyNotFound, KeysUnreachable, SetupError, SonantError
from sonant.settings import Pkcs11
from sonant.storage.keys.material import KEY_BYTES, KeyCipher
from sonant.storage.keys.store import DataKeyCache, KeyBackEnd

_T = TypeVar("_T")
_TAG_BITS = 128
_PIN_MAX_BYTES = 1024
#: Pause after a token could not be opened, so that calls do not queue up.
RETRY_PAUSE_S = 1.0

_log = logging.getLogger(__name__)
#: The library's start and end concern every session of the process.
_lock = threading.RLock()


def token_material(settings: Pkcs11, cache_s: float) -> TokenMaterial:
    """Return the material in a token, which is opened when it is used.

    Raises SetupError for settings that are incomplete, and without the library `pkcs11`.
    """
    for name in ("module", "token"):
        if not getattr(settings, name):
            raise SetupError(f'keys = "pkcs11" needs the setting pkcs11.{name}')
    if bool(settings.pin) == bool(settings.pin_file):
        raise SetupError("set one of pkcs11.pin and pkcs11.pin_file")
    if importlib.util.find_spec("pkcs11") is None:
        raise SetupError('keys = "pkcs11" needs the extra of that name: pip install "sonant[pkcs11]"')
    return TokenMaterial(open_token(settings), cache_s)


class TokenMaterial:
    """A `KeyMaterial` in a token. Safe for several threads."""

    in_token = True

    def __init__(self, token: Token, cache_s: float) -> None:
        """`cache_s`: how long an unwrapped data key is reused."""
        self._token, self._cache = token, DataKeyCache(cache_s, is_good=self._is_good)
        self._revoked: list[Callable[[bytes], bool]] = []

    def make(self, key_id: str) -> bytes:
        object_id = secrets.token_bytes(KEY_BYTES)
        self._token.make(key_id, object_id)
        return object_id

    def cipher(self, stored: bytes) -> KeyCipher:
        return _TokenCipher(self._token, self._cache, stored)

    def destroy(self, stored: Iterable[bytes]) -> None:
        for object_id in stored:
            self._token.destroy(object_id)

    def forget_when(self, revoked: Callable[[bytes], bool]) -> None:
        self._revoked.append(revoked)

    def _is_good(self, cache_key: Hashable) -> bool:
        object_id = cache_key[0] if isinstance(cache_key, tuple) else b""
        return not any(revoked(object_id) for revoked in self._revoked)


class _NotEncryptedHere(Exception):
    """The key did not encrypt this: nothing is to be cached."""


class _TokenCipher:
    __slots__ = ("_cache", "_object_id", "_token")

    def __init__(self, token: Token, cache: DataKeyCache, object_id: bytes) -> None:
        self._token, self._cache, self._object_id = token, cache, object_id

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        return self._token.encrypt(self._object_id, nonce, data, aad)

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes | None:
        def unwrap() -> bytes:
            found = self._token.decrypt(self._object_id, nonce, data, aad)
            if found is None:
                raise _NotEncryptedHere
            return found

        try:
            return self._cache.get((self._object_id, nonce, data, aad), unwrap)
        except _NotEncryptedHere:
            return None


class Token:
    """One token of one module, with one session.

    Every method raises KeysUnreachable when the token cannot be used. Those that use a key raise KeyNotFound
    when the token does not hold it.
    """

    def __init__(self, settings: Pkcs11) -> None:
        self._settings = settings
        self._session: Any = None
        self._process_id = 0
        self._refused_pin = ""
        self._retry_at_s = 0.0

    def make(self, label: str, object_id: bytes) -> None:
        """Generate a key."""

        def work(session: Any) -> None:
            import pkcs11

            session.generate_key(
                pkcs11.KeyType.AES,
                8 * KEY_BYTES,
                id=object_id,
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

    def destroy(self, object_id: bytes) -> None:
        """Destroy a key. Nothing happens when there is none."""

        def work(session: Any) -> None:
            _key(session, object_id).destroy()

        try:
            self._do(work)
        except KeyNotFound:
            return

    def encrypt(self, object_id: bytes, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        return self._do(lambda session: _encrypted(_key(session, object_id), nonce, data, aad))

    def decrypt(self, object_id: bytes, nonce: bytes, data: bytes, aad: bytes) -> bytes | None:
        """Decrypt, or return None when this key did not encrypt it or `aad` differs."""
        return self._do(lambda session: _decrypted(_key(session, object_id), nonce, data, aad))

    def _do(self, work: Callable[[Any], _T]) -> _T:
        """Do the work, a second time in a new session when the session may be at fault."""
        with _lock:
            # A session does not survive a fork.
            if self._session is not None and self._process_id != os.getpid():
                self.close()
            fresh = self._session is None
            if fresh:
                self._open()
            found, fault = self._attempt(work)
            if fault is not None and not fresh:
                self.close()
                self._open()
                found, fault = self._attempt(work)
            if fault is None:
                return found[0]
            if not isinstance(fault, KeyNotFound):
                self.close()
            raise fault

    def _attempt(self, work: Callable[[Any], _T]) -> tuple[list[_T], SonantError | None]:
        """Return the outcome as values: an exception would keep handles of a session that is to be closed."""
        from pkcs11.exceptions import NoSuchKey, PKCS11Error

        try:
            return [work(self._session)], None
        except NoSuchKey:
            return [], KeyNotFound("the token does not hold the key's material")
        except PKCS11Error as fault:
            return [], KeysUnreachable(f"the PKCS#11 token cannot be used ({type(fault).__name__})")

    def _open(self) -> None:
        if time.monotonic() < self._retry_at_s:
            raise KeysUnreachable("the PKCS#11 token could not be opened a moment ago")
        reason = self._open_session()
        if reason:
            self.close()
            self._retry_at_s = time.monotonic() + RETRY_PAUSE_S
            raise KeysUnreachable(f"the PKCS#11 token cannot be opened ({reason})")

    def _open_session(self) -> str:
        """Open a session. Returns "", or the reason that there is none, without the PIN."""
        import pkcs11
        from pkcs11.exceptions import PinIncorrect, PinInvalid, PinLenRange, PinLocked, PKCS11Error

        try:
            pin = self._pin()
        except (OSError, UnicodeDecodeError) as fault:
            return f"pin_file: {type(fault).__name__}"
        if pin == self._refused_pin:  # tokens lock themselves after several wrong PINs
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
        self._process_id, self._refused_pin = os.getpid(), ""
        return ""

    def close(self) -> None:
        """Close the session and the library: some find a token that is back only after a new start."""
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
def open_token(settings: Pkcs11) -> Token:
    """Return the process's one `Token` of these settings."""
    return Token(settings)


def _key(session: Any, object_id: bytes) -> Any:
    """Find the key, at every use: one that another process destroyed must not go on working."""
    import pkcs11

    return session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, id=object_id)


def _encrypted(key: Any, nonce: bytes, data: bytes, aad: bytes) -> bytes:
    import pkcs11

    parameters = pkcs11.GCMParams(nonce, aad, _TAG_BITS)
    return bytes(key.encrypt(data, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters))


def _decrypted(key: Any, nonce: bytes, data: bytes, aad: bytes) -> bytes | None:
    import pkcs11
    from pkcs11.exceptions import EncryptedDataInvalid, EncryptedDataLenRange, FunctionFailed, GeneralError

    parameters = pkcs11.GCMParams(nonce, aad, _TAG_BITS)
    try:
        return bytes(key.decrypt(data, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters))
    except (EncryptedDataInvalid, EncryptedDataLenRange):
        return None
    except (GeneralError, FunctionFailed):
        # Some tokens report a wrong tag only like this. One that opens what it has just sealed works.
        test = pkcs11.GCMParams(secrets.token_bytes(len(nonce)), b"", _TAG_BITS)
        sealed = key.encrypt(bytes(16), mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=test)
        if key.decrypt(sealed, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=test) != bytes(16):
            raise
        return None


BACK_END = KeyBackEnd(material=lambda settings: token_material(settings.pkcs11, settings.kms.cache_s))
