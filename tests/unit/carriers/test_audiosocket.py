"""Asterisk's AudioSocket, in packets written from its protocol definition."""

from __future__ import annotations

import struct
from itertools import pairwise
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonant.carriers.carrier import Audio, End, Open, Reply
from sonant.carriers.providers.audiosocket import MAX_PAYLOAD_BYTES, AudioSocketAdapter
from sonant.sessions.calls import Call, EndReason, StreamFault

ACCOUNT, DOMAIN = "0" * 12, "d" * 22
NAME = UUID("40325ec2-5efd-4bd3-805f-53576e581d13")
# Header and payload as the documentation has them: type, length (big-endian), payload.
UUID_PACKET = b"\x01\x00\x10" + bytes.fromhex("40325ec25efd4bd3805f53576e581d13")
HANGUP_PACKET = b"\x00\x00\x00"
DTMF_PACKET = b"\x03\x00\x015"
OPEN = Open(Call(account_id=ACCOUNT, domain_id=DOMAIN, session=str(NAME), create=True))


def packet(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BH", kind, len(payload)) + payload


def sound(*samples: int, kind: int = 0x10) -> bytes:
    return packet(kind, np.array(samples, "<i2").tobytes())


@pytest.fixture
def adapter() -> AudioSocketAdapter:
    return AudioSocketAdapter(ACCOUNT, DOMAIN)


def comparable(effects) -> list[object]:
    """Effects that can be compared."""
    return [
        ("audio", one.samples.tolist(), one.rate_hz) if isinstance(one, Audio) else one for one in effects
    ]


def test_uuid_names_the_session(adapter):
    assert list(adapter.receive(UUID_PACKET)) == [OPEN]


def test_call_from_uuid_to_hangup(adapter):
    frame = list(range(160))
    call = UUID_PACKET + sound(*frame) + DTMF_PACKET + sound(*frame) + HANGUP_PACKET
    assert comparable(adapter.receive(call)) == [
        OPEN,
        ("audio", frame, 8000),
        ("audio", frame, 8000),
        End(EndReason.CALL_ENDED),
    ]
    assert list(adapter.receive(sound(1, 2))) == []


def test_adjacent_audio_packets_become_one_effect(adapter):
    adapter.receive(UUID_PACKET)
    assert comparable(adapter.receive(sound(1, 2) + sound(3))) == [("audio", [1, 2, 3], 8000)]


def test_audio_type_0x12_is_16_khz(adapter):
    adapter.receive(UUID_PACKET)
    assert comparable(adapter.receive(sound(1, 2, kind=0x12))) == [("audio", [1, 2], 16000)]


@given(cuts=st.lists(st.integers(0, 400), max_size=12))
def test_packets_may_be_cut_anywhere(cuts):
    call = UUID_PACKET + sound(*range(80)) + DTMF_PACKET + sound(*range(80, 120)) + HANGUP_PACKET
    places = [0, *sorted(min(cut, len(call)) for cut in cuts), len(call)]
    adapter, samples, others = AudioSocketAdapter(ACCOUNT, DOMAIN), [], []
    for begin, end in pairwise(places):
        for effect in adapter.receive(call[begin:end]):
            if isinstance(effect, Audio):
                samples += effect.samples.tolist()
            else:
                others.append(effect)
    assert samples == list(range(120))
    assert others == [OPEN, End(EndReason.CALL_ENDED)]


def test_error_packet_is_a_disconnection(adapter):
    adapter.receive(UUID_PACKET)
    assert list(adapter.receive(packet(0xFF, b"\x02"))) == [End(EndReason.DISCONNECTED)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (sound(1), "first packet"),
        (DTMF_PACKET, "first packet"),
        (b"GET / HTTP/1.1\r\n", "first packet"),
        (UUID_PACKET + UUID_PACKET, "UUID came twice"),
        (b"\x01\x00\x0f" + bytes(15), "UUID"),
        (UUID_PACKET + packet(0x10, b"\0"), "middle of a sample"),
        (UUID_PACKET + packet(0x16, b"\0\0"), "8 or 16 kHz"),
        (UUID_PACKET + packet(0x42, b""), "not known"),
        (UUID_PACKET + struct.pack(">BH", 0x10, MAX_PAYLOAD_BYTES + 1), "longer than"),
    ],
)
def test_protocol_violation_is_a_fault(adapter, data, says):
    with pytest.raises(StreamFault, match=says) as raised:
        adapter.receive(data)
    assert raised.value.reason == EndReason.MALFORMED


def test_refused_or_ended_call_is_hung_up(adapter):
    assert list(adapter.refused("no")) == [Reply(HANGUP_PACKET), End(EndReason.NEVER_BEGAN)]
    assert list(adapter.ended(EndReason.IDLE)) == [Reply(HANGUP_PACKET), End(EndReason.IDLE)]


packets = st.builds(packet, st.sampled_from([0, 1, 3, 0x10, 0x12, 0x13, 0xFF, 7]), st.binary(max_size=64))


@given(
    st.booleans(),
    st.lists(st.binary(max_size=300) | packets, max_size=20),
)
def test_any_bytes_are_effects_or_a_fault_and_little_is_kept(named, pieces):
    adapter = AudioSocketAdapter(ACCOUNT, DOMAIN)
    for piece in [UUID_PACKET, *pieces] if named else pieces:
        try:
            effects = adapter.receive(piece)
        except StreamFault:
            return
        assert all(isinstance(effect, Open | Audio | End) for effect in effects)
        assert len(adapter.incomplete_packet) < 3 + MAX_PAYLOAD_BYTES
