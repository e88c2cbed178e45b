"""Authenticated encryption with a data key: streams, small values, and derived keys.

A sealed stream is

    magic 16 | length 2, wrapped data key | length 2, key id | salt 16 | chunk | chunk | ... | last chunk

Each chunk is 64 KiB of plaintext (the last may be shorter, or empty) under AES-256-GCM with a 16-byte tag.
The chunks follow the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-
Encryption and its Nonce-Reuse Misuse-Resistance", 2015): the nonce is an 11-byte chunk number and one byte
that marks the last chunk, so that a stream that was truncated, extended or reordered does not open. The
chunks' key is derived (HKDF-SHA256) from the data key, a random salt and the header: a data key may seal any
number of streams, and a changed header does not open either.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sonant.errors import SealBroken
from sonant.storage.keys.store import DataKey

MAGIC = bytes.fromhex("1ec38b02ec04379097328c7ee0cb393e")
CHUNK_BYTES = 64 * 1024
KEY_BYTES = 32

_SALT_BYTES = 16
_TAG_BYTES = 16
#: Limits of AWS KMS for a ciphertext blob and a key's name.
_WRAPPED_MAX_BYTES, _KEY_ID_MAX_BYTES = 6144, 2048
HEADER_MAX_BYTES = len(MAGIC) + 2 + _WRAPPED_MAX_BYTES + 2 + _KEY_ID_MAX_BYTES + _SALT_BYTES
_SEALED_CHUNK_BYTES = CHUNK_BYTES + _TAG_BYTES
_NONCE_BYTES = 12
_VALUE_VERSION = b"\x01"
_SLICE_BYTES = 16 * CHUNK_BYTES


class Source(Protocol):
    def read(self, n: int, /) -> bytes | None:
        """Read up to `n` bytes; none at the end."""
        ...


def is_sealed(prefix: bytes | bytearray) -> bool:
    """Return whether the first 16 or more bytes of a file are those of a sealed stream."""
    return prefix[: len(MAGIC)] == MAGIC


def seal(chunks: Iterable[bytes], data_key: DataKey) -> Iterator[bytes]:
    """Seal `chunks` of any sizes as a stream, with about 1 MiB in memory."""
    header = (
        MAGIC
        + _with_length(data_key.wrapped, _WRAPPED_MAX_BYTES)
        + _with_length(data_key.key_id.encode(), _KEY_ID_MAX_BYTES)
        + secrets.token_bytes(_SALT_BYTES)
    )
    cipher = _stream_cipher(data_key.plaintext, header)
    yield header
    number, buffer = 0, bytearray()
    for piece in _slices(chunks):
        buffer += piece
        # A full chunk waits until more follows: it might be the last.
        start = 0
        with memoryview(buffer) as view:
            while len(view) - start > CHUNK_BYTES:
                yield cipher.encrypt(_nonce(number, False), view[start : start + CHUNK_BYTES], None)
                number, start = number + 1, start + CHUNK_BYTES
        del buffer[:start]
    yield cipher.encrypt(_nonce(number, True), bytes(buffer), None)


def open_sealed(file: Source, unwrap: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Yield the plaintext of a sealed stream in chunks.

    `unwrap` turns the wrapped data key into 32 bytes; it is called at once and its errors pass through.
    Raises SealBroken, at the call for the header and while iterating for a chunk. Yielded chunks are
    authentic, but complete only when the iterator ends.
    """
    wrapped, header = _read_header(file)
    return _decrypted_chunks(file, _stream_cipher(unwrap(wrapped), header))


def plaintext_size(prefix: bytes, sealed_bytes: int) -> int:
    """Return the bytes of plaintext in a sealed stream of `sealed_bytes` that starts with `prefix`.

    `prefix` has HEADER_MAX_BYTES, or the whole stream if shorter. The number is not authenticated until the
    stream has been read. Raises SealBroken when no stream has that size.
    """
    body = sealed_bytes - len(_read_header(_Prefix(prefix))[1])
    chunks = max(1, -(-body // _SEALED_CHUNK_BYTES))
    plain = body - chunks * _TAG_BYTES
    if plain < (chunks - 1) * CHUNK_BYTES:
        raise SealBroken("sealed stream: cut short")
    return plain


def wrapped_key(prefix: bytes) -> bytes:
    """Return the wrapped data key of a sealed stream; `prefix` as in `plaintext_size`. Raises SealBroken."""
    return _read_header(_Prefix(prefix))[0]


def seal_value(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt `plaintext` under a 32-byte key, bound to `aad`; the result is 29 bytes longer.

    Version byte, random 12-byte nonce, AES-256-GCM. Random nonces allow 2**32 values a key (NIST SP 800-38D,
    8.3).
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _VALUE_VERSION + nonce + AESGCM(key).encrypt(nonce, plaintext, _VALUE_VERSION + aad)


def open_value(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Decrypt what `seal_value` returned. Raises SealBroken when it, the key or `aad` is another."""
    if sealed[:1] != _VALUE_VERSION or len(sealed) < 1 + _NONCE_BYTES + _TAG_BYTES:
        raise SealBroken("sealed value: not of a known form")
    body = 1 + _NONCE_BYTES
    try:
        return AESGCM(key).decrypt(sealed[1:body], sealed[body:], _VALUE_VERSION + aad)
    except InvalidTag:
        raise SealBroken("sealed value: altered, or bound to another key or owner") from None


def lookup_hash(key: bytes, value: str) -> bytes:
    """Return the HMAC-SHA256 of a value, 32 bytes, which finds equal values and reveals none."""
    return hmac.digest(key, value.encode(), "sha256")


def derive(key: bytes, purpose: str) -> bytes:
    """Derive a 32-byte key for one purpose, independent of others (HKDF-SHA256, RFC 5869, no salt)."""
    return derive_all(key, purpose)[0]


def derive_all(key: bytes, *purposes: str) -> tuple[bytes, ...]:
    """Derive a key for each purpose, as `derive` does.

    Fast enough (some microseconds) to be done for every call of the API, so that no derived key need stay in
    memory. 32 bytes are one block of the expansion, whose number is the last byte.
    """
    extracted = hmac.digest(bytes(KEY_BYTES), key, "sha256")
    return tuple(
        hmac.digest(extracted, b"sonant " + purpose.encode() + b"\x01", "sha256") for purpose in purposes
    )


def _stream_cipher(key: bytes, header: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise SealBroken("sealed stream: the data key is not one of 256 bits")
    return AESGCM(
        HKDF(SHA256(), KEY_BYTES, header[-_SALT_BYTES:], b"sonant sealed stream" + header).derive(key)
    )


def _decrypted_chunks(file: Source, cipher: AESGCM) -> Iterator[bytes]:
    number, sealed = 0, _read(file, _SEALED_CHUNK_BYTES)
    last = False
    while not last:
        following = _read(file, _SEALED_CHUNK_BYTES) if len(sealed) == _SEALED_CHUNK_BYTES else b""
        last = not following
        try:
            if len(sealed) < _TAG_BYTES:
                raise InvalidTag
            plain = cipher.decrypt(_nonce(number, last), sealed, None)
        except InvalidTag:
            raise SealBroken(f"sealed stream: altered or cut short at chunk {number}") from None
        if plain:
            yield plain
        number, sealed = number + 1, following


def _read_header(file: Source) -> tuple[bytes, bytes]:
    """Read the header; return the wrapped data key and the whole header."""
    header = _read_exactly(file, len(MAGIC))
    if header != MAGIC:
        raise SealBroken("not a sealed stream")
    fields = []
    for limit in (_WRAPPED_MAX_BYTES, _KEY_ID_MAX_BYTES):
        length = _read_exactly(file, 2)
        size = int.from_bytes(length, "big")
        if size > limit:
            raise SealBroken("sealed stream: damaged header")
        fields.append(_read_exactly(file, size))
        header += length + fields[-1]
    return fields[0], header + _read_exactly(file, _SALT_BYTES)


def _read_exactly(file: Source, size: int) -> bytes:
    data = _read(file, size)
    if len(data) != size:
        raise SealBroken("sealed stream: cut short in the header")
    return data


def _read(file: Source, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end of the file."""
    data = file.read(size) or b""
    if len(data) == size or not data:
        return data
    parts = [data]
    while (missing := size - sum(map(len, parts))) and (data := file.read(missing) or b""):
        parts.append(data)
    return b"".join(parts)


def _slices(chunks: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """Yield the same bytes in pieces of at most 1 MiB."""
    for chunk in chunks:
        if len(chunk) <= _SLICE_BYTES:
            yield chunk
            continue
        with memoryview(chunk) as view:
            for start in range(0, len(view), _SLICE_BYTES):
                yield view[start : start + _SLICE_BYTES]


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(_NONCE_BYTES - 1, "big") + (b"\x01" if last else b"\x00")


def _with_length(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise ValueError(f"header field of {len(data)} bytes, at most {limit} allowed")
    return len(data).to_bytes(2, "big") + data


class _Prefix:
    """A `Source` of bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, n: int, /) -> bytes:
        self._at += n
        return self._data[self._at - n : self._at]
