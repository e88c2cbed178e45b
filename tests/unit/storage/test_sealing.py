"""Sealed streams and values open whole and under their own key, or not at all."""

import io
import random

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from sonant.errors import SealBroken
from sonant.storage.crypto.sealing import (
    CHUNK_BYTES,
    HEADER_MAX_BYTES,
    MAGIC,
    derive,
    derive_all,
    is_sealed,
    lookup_hash,
    open_sealed,
    open_value,
    plaintext_size,
    seal,
    seal_value,
)
from sonant.storage.keys.store import DataKey

KEY = bytes(range(32))
WRAPPED = b"wrapped form of the key"
DATA_KEY = DataKey(plaintext=KEY, wrapped=WRAPPED, key_id="0b6ee0a3-0000-4000-8000-000000000001")
SEALED_CHUNK_BYTES = CHUNK_BYTES + 16


def sealed(plaintext: bytes, data_key: DataKey = DATA_KEY) -> bytes:
    return b"".join(seal([plaintext], data_key))


def opened(stream: bytes, key: bytes = KEY) -> bytes:
    return b"".join(open_sealed(io.BytesIO(stream), lambda wrapped: key))


def parts(stream: bytes) -> tuple[bytes, list[bytes]]:
    """Header and sealed chunks of a stream."""
    length = 16 + 2 + len(WRAPPED) + 2 + len(DATA_KEY.key_id) + 16
    body = stream[length:]
    return stream[:length], [
        body[at : at + SEALED_CHUNK_BYTES] for at in range(0, len(body), SEALED_CHUNK_BYTES)
    ]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


SIZES = [0, 1, 15, 16, 17, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_opens_to_the_same_bytes(size):
    assert opened(sealed(noise(size))) == noise(size)


@pytest.mark.parametrize("size", SIZES)
def test_the_size_of_the_plaintext_is_known_without_opening(size):
    stream = sealed(noise(size))
    assert plaintext_size(stream[:HEADER_MAX_BYTES], len(stream)) == size


def test_a_full_last_chunk_is_not_followed_by_an_empty_one():
    assert len(parts(sealed(noise(2 * CHUNK_BYTES)))[1]) == 2


@given(st.lists(st.integers(0, 3 * CHUNK_BYTES), max_size=6))
@settings(max_examples=30)
def test_how_the_plaintext_is_cut_into_pieces_does_not_matter(cuts):
    pieces = [noise(size) for size in cuts]
    assert opened(b"".join(seal(pieces, DATA_KEY))) == b"".join(pieces)


def test_sealing_holds_little_of_an_endless_input():
    stream = seal((b"x" * 1000 for _ in iter(int, 1)), DATA_KEY)
    assert is_sealed(next(stream))
    assert len(next(stream)) == SEALED_CHUNK_BYTES


def test_a_source_that_returns_few_bytes_at_a_time_opens_too():
    class Trickle(io.BytesIO):
        def read(self, n=-1, /):
            return super().read(min(n, 1000))

    stream = sealed(noise(200_000))
    assert b"".join(open_sealed(Trickle(stream), lambda wrapped: KEY)) == noise(200_000)


def test_unwrap_is_called_at_once_and_its_errors_pass_through():
    class Refused(Exception):
        pass

    def unwrap(wrapped):
        assert wrapped == WRAPPED
        raise Refused

    with pytest.raises(Refused):
        open_sealed(io.BytesIO(sealed(b"voice")), unwrap)


def test_sealed_stream_shows_magic_and_key_but_no_content():
    stream = sealed(b"voice" * 1000)
    assert is_sealed(stream[:16])
    assert not is_sealed(stream[:15])
    assert not is_sealed(b"RIFF" + stream[4:16])
    assert DATA_KEY.key_id.encode() in stream
    assert b"voice" not in stream
    assert KEY not in stream


def test_same_plaintext_is_sealed_differently_each_time():
    one, other = parts(sealed(bytes(100)))[1], parts(sealed(bytes(100)))[1]
    assert one != other


def test_every_single_flipped_bit_is_detected():
    stream = sealed(b"thirty seconds of speech")
    for bit in range(len(stream) * 8):
        altered = bytearray(stream)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            opened(bytes(altered))


def test_altered_chunk_is_detected_before_it_is_yielded():
    header, chunks = parts(sealed(noise(3 * CHUNK_BYTES)))
    for number in range(3):
        altered = bytearray(header + b"".join(chunks))
        altered[len(header) + number * SEALED_CHUNK_BYTES + 777] ^= 1
        seen: list[bytes] = []
        with pytest.raises(SealBroken, match=f"chunk {number}"):
            seen.extend(open_sealed(io.BytesIO(bytes(altered)), lambda wrapped: KEY))
        assert len(seen) <= number


def test_every_truncation_of_a_small_stream_is_detected():
    stream = sealed(b"thirty seconds of speech")
    for length in range(len(stream)):
        with pytest.raises(SealBroken):
            opened(stream[:length])


@pytest.mark.parametrize("keep", [0, 1, 2], ids=lambda keep: f"{keep} of 3 chunks")
def test_a_stream_cut_between_two_chunks_is_detected(keep):
    header, chunks = parts(sealed(noise(3 * CHUNK_BYTES)))
    with pytest.raises(SealBroken):
        opened(header + b"".join(chunks[:keep]))


@pytest.mark.parametrize(
    "order",
    [[1, 0, 2], [0, 2, 1], [2, 1, 0], [0, 0, 1, 2], [0, 2], [0, 1, 2, 2], [0, 1, 2, 0]],
    ids=str,
)
def test_chunks_swapped_repeated_or_left_out_are_detected(order):
    header, chunks = parts(sealed(noise(3 * CHUNK_BYTES)))
    with pytest.raises(SealBroken):
        opened(header + b"".join(chunks[number] for number in order))


@pytest.mark.parametrize("size", [10, CHUNK_BYTES], ids=["short last chunk", "full last chunk"])
@pytest.mark.parametrize("added", [b"\0", bytes(16), bytes(SEALED_CHUNK_BYTES)], ids=len)
def test_bytes_added_at_the_end_are_detected(size, added):
    with pytest.raises(SealBroken):
        opened(sealed(noise(size)) + added)


def test_chunks_of_another_stream_under_the_same_key_do_not_fit():
    header, _ = parts(sealed(b"first"))
    _, chunks = parts(sealed(b"other"))
    with pytest.raises(SealBroken):
        opened(header + chunks[0])


def test_another_key_does_not_open():
    with pytest.raises(SealBroken):
        opened(sealed(b"voice"), key=bytes(32))


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(33)], ids=len)
def test_a_data_key_that_is_not_of_256_bits_is_refused(key):
    with pytest.raises(SealBroken):
        opened(sealed(b"voice"), key=key)


def test_header_field_beyond_the_limit_is_refused_before_reading():
    with pytest.raises(SealBroken, match="header"):
        opened(MAGIC + b"\xff\xff" + bytes(70_000))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data):
    with pytest.raises(SealBroken):
        opened(data)
    with pytest.raises(SealBroken):
        opened(MAGIC + data)


@given(plaintext=st.binary(max_size=300), aad=st.binary(max_size=50))
def test_a_value_opens_to_what_was_sealed(plaintext, aad):
    sealed_value = seal_value(KEY, plaintext, aad)
    assert open_value(KEY, sealed_value, aad) == plaintext
    assert len(sealed_value) == len(plaintext) + 29


def test_altered_or_truncated_value_is_detected():
    sealed_value = seal_value(KEY, b"customer 42", b"speaker 7")
    broken = [sealed_value[:length] for length in range(len(sealed_value))]
    for bit in range(len(sealed_value) * 8):
        altered = bytearray(sealed_value)
        altered[bit // 8] ^= 1 << bit % 8
        broken.append(bytes(altered))
    for value in broken:
        with pytest.raises(SealBroken):
            open_value(KEY, value, b"speaker 7")


def test_a_value_opens_only_in_its_own_place_and_under_its_own_key():
    sealed_value = seal_value(KEY, b"customer 42", b"speaker 7")
    with pytest.raises(SealBroken):
        open_value(KEY, sealed_value, b"speaker 8")
    with pytest.raises(SealBroken):
        open_value(derive(KEY, "other"), sealed_value, b"speaker 7")


def test_no_error_text_holds_key_or_plaintext():
    sealed_value = seal_value(KEY, b"customer 42", b"speaker 7")
    with pytest.raises(SealBroken) as fault:
        open_value(KEY, sealed_value, b"speaker 8")
    assert "customer" not in str(fault.value)
    assert KEY.hex() not in str(fault.value)
    assert fault.value.__cause__ is None


def test_look_up_hashes_agree_for_equal_values_and_keys_only():
    assert lookup_hash(KEY, "customer 42") == lookup_hash(KEY, "customer 42")
    assert lookup_hash(KEY, "customer 42") != lookup_hash(KEY, "customer 43")
    assert lookup_hash(KEY, "customer 42") != lookup_hash(bytes(32), "customer 42")
    assert len(lookup_hash(KEY, "ä" * 1000)) == 32


def test_a_look_up_hash_is_hmac_sha256():
    # RFC 4231, test case 2.
    assert lookup_hash(b"Jefe", "what do ya want for nothing?").hex() == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_derived_keys_differ_by_purpose_and_by_key_and_are_stable():
    assert derive(KEY, "text") == derive(KEY, "text")
    assert len({derive(KEY, "text"), derive(KEY, "lookup"), derive(bytes(32), "text"), KEY}) == 4
    assert len(derive(KEY, "")) == 32


def test_a_data_key_does_not_show_its_plaintext():
    assert repr(KEY) not in repr(DATA_KEY)
    assert "plaintext" not in repr(DATA_KEY)


@pytest.mark.parametrize("purpose", ["text", "lookup", "", "ä"])
def test_derived_keys_are_those_of_the_standard(purpose):
    info = b"sonant " + purpose.encode()
    assert derive(KEY, purpose) == HKDF(SHA256(), 32, None, info).derive(KEY)
    assert derive_all(KEY, "other", purpose)[1] == derive(KEY, purpose)
