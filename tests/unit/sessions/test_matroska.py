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


def heard(track: CustomerTrack, data: bytes, step: int = 100) -> NDArray[np.int16]:
    found = [part for at in range(0, len(data), step) for part in track.feed(data[at : at + step])]
    return np.concatenate([np.empty(0, np.int16), *found, *track.finish()])


@pytest.mark.parametrize("step", [1, 7, 4096, 10**6])
def test_the_customers_samples_come_out_as_they_went_in(step: int) -> None:
    data = fragment(voice(1), "contact-1") + fragment(voice(2), "contact-1")

    np.testing.assert_array_equal(
        heard(CustomerTrack("contact-1"), data, step), np.concatenate([voice(1), voice(2)])
    )


def test_the_track_is_found_by_its_name_wherever_it_stands() -> None:
    data = fragment(voice(1), names=TRACKS[::-1]) + fragment(voice(2))

    np.testing.assert_array_equal(heard(CustomerTrack(), data), np.concatenate([voice(1), voice(2)]))


def test_the_codec_that_connect_claims_does_not_matter() -> None:
    data = fragment(voice(1)).replace(b"A_PCM/INT/LIT", b"A_AAC" + b"\0" * 8)

    np.testing.assert_array_equal(heard(CustomerTrack(), data), voice(1))


def test_the_next_call_in_the_same_video_stream_is_not_listened_to() -> None:
    track = CustomerTrack("contact-1")
    data = fragment(voice(1), "contact-1") + fragment(voice(2), "contact-2") + fragment(voice(3), "contact-1")

    np.testing.assert_array_equal(heard(track, data), voice(1))
    assert track.over


def test_what_comes_before_the_call_is_passed_over() -> None:
    track = CustomerTrack("contact-1")
    data = fragment(voice(2), "contact-0") + fragment(voice(1), "contact-1")

    np.testing.assert_array_equal(heard(track, data), voice(1))
    assert not track.over


def test_without_a_contact_the_first_one_counts() -> None:
    data = fragment(voice(1), "contact-1") + fragment(voice(2), "contact-2")

    np.testing.assert_array_equal(heard(CustomerTrack(), data), voice(1))


def test_a_fragment_is_given_only_when_its_tags_have_been_seen() -> None:
    track = CustomerTrack("contact-1")

    assert track.feed(fragment(voice(2), None)) == []
    assert track.feed(tags(ContactId="contact-2")) == []
    assert track.finish() == []


def test_a_fragment_has_a_bound() -> None:
    track = CustomerTrack()
    track.feed(HEADER)
    block = element("A3", b"\x81\0\0\x80", b"\0" * 100_000)

    with pytest.raises(StreamFault, match="larger"):
        for _ in range(MAX_FRAGMENT_BYTES // 100_000 + 2):
            track.feed(block)


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
def test_what_is_not_connects_matroska_is_a_fault(data: bytes) -> None:
    with pytest.raises(StreamFault):
        CustomerTrack().feed((b"" if data[:1] in b"R\0" else HEADER) + data)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_samples_or_a_fault(data: bytes, step: int) -> None:
    start = fragment(voice(1, 50))
    try:
        heard(CustomerTrack(), start + data, step)
    except StreamFault as fault:
        assert str(fault)
