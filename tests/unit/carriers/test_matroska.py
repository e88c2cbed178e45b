"""Calls of Amazon Connect: fragments of Matroska, made by PyAV, in the order that Kinesis gives them."""

from __future__ import annotations

import numpy as np
import pytest
from connect_media import HEADER, TRACKS, element, fragment, tags
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sonant.carriers.matroska import MAX_FRAGMENT_BYTES, CustomerTrack
from sonant.sessions.calls import StreamFault


def voice(seed: int = 0, count: int = 4000) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-3000, 3000, count).astype(np.int16)


def extracted(track: CustomerTrack, data: bytes, step: int = 100) -> NDArray[np.int16]:
    found = [part for at in range(0, len(data), step) for part in track.push(data[at : at + step])]
    return np.concatenate([np.empty(0, np.int16), *found, *track.finish()])


@pytest.mark.parametrize("step", [1, 7, 4096, 10**6])
def test_customers_samples_are_extracted(step: int) -> None:
    data = fragment(voice(1), "contact-1") + fragment(voice(2), "contact-1")

    np.testing.assert_array_equal(
        extracted(CustomerTrack("contact-1"), data, step), np.concatenate([voice(1), voice(2)])
    )


def test_track_is_found_by_name() -> None:
    data = fragment(voice(1), names=TRACKS[::-1]) + fragment(voice(2))

    np.testing.assert_array_equal(extracted(CustomerTrack(), data), np.concatenate([voice(1), voice(2)]))


def test_declared_codec_is_ignored() -> None:
    data = fragment(voice(1)).replace(b"A_PCM/INT/LIT", b"A_AAC" + b"\0" * 8)

    np.testing.assert_array_equal(extracted(CustomerTrack(), data), voice(1))


def test_next_contact_ends_the_track() -> None:
    track = CustomerTrack("contact-1")
    data = fragment(voice(1), "contact-1") + fragment(voice(2), "contact-2") + fragment(voice(3), "contact-1")

    np.testing.assert_array_equal(extracted(track, data), voice(1))
    assert track.ended


def test_fragments_of_earlier_contacts_are_skipped() -> None:
    track = CustomerTrack("contact-1")
    data = fragment(voice(2), "contact-0") + fragment(voice(1), "contact-1")

    np.testing.assert_array_equal(extracted(track, data), voice(1))
    assert not track.ended


def test_first_contact_is_used_by_default() -> None:
    data = fragment(voice(1), "contact-1") + fragment(voice(2), "contact-2")

    np.testing.assert_array_equal(extracted(CustomerTrack(), data), voice(1))


def test_fragment_is_returned_only_after_its_tags() -> None:
    track = CustomerTrack("contact-1")

    assert track.push(fragment(voice(2), None)) == []
    assert track.push(tags(ContactId="contact-2")) == []
    assert track.finish() == []


def test_fragment_size_is_bounded() -> None:
    track = CustomerTrack()
    track.push(HEADER)
    block = element("A3", b"\x81\0\0\x80", b"\0" * 100_000)

    with pytest.raises(StreamFault, match="larger"):
        for _ in range(MAX_FRAGMENT_BYTES // 100_000 + 2):
            track.push(block)


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF" + b"\0" * 20,
        bytes(20),
        element("A3"),
        element("A3", b"\x81\0"),
        element("A3", b"\x81\0\0\x06data"),
        element("AE", b"\xd7\x88"),
        bytes.fromhex("A3") + b"\xff" + bytes(20),  # a block of unknown size
    ],
)
def test_other_data_is_a_fault(data: bytes) -> None:
    with pytest.raises(StreamFault):
        CustomerTrack().push((b"" if data[:1] in b"R\0" else HEADER) + data)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_samples_or_a_fault(data: bytes, step: int) -> None:
    start = fragment(voice(1, 50))
    try:
        extracted(CustomerTrack(), start + data, step)
    except StreamFault as fault:
        assert str(fault)
