"""Asterisk's AudioSocket: a TCP stream of packets of one byte of type, two of length (big-endian) and a
payload (Asterisk docs, "AudioSocket").

    0x01 UUID of 16 bytes, first; 0x10 and up audio, signed 16-bit little-endian; 0x03 DTMF; 0xff error;
    0x00 the end

The UUID is the session's name; the domain is the setting `live.domain`. Rates above 16 kHz are refused:
telephone calls have none. The protocol has no password, so the port is opened on the host that the service
listens on, which is a loopback address by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sonant.carriers.carrier import Audio, Effect, End, Open, Reply, TcpCarrier
from sonant.carriers.encoding import decoder
from sonant.errors import SetupError
from sonant.sessions.calls import Call, EndReason, StreamFault
from sonant.settings import Settings
from sonant.settings.declaration import number

HANGUP, IDENTITY, DTMF, AUDIO_8K, AUDIO_16K, ERROR = 0x00, 0x01, 0x03, 0x10, 0x12, 0xFF
_RATES_HZ = {AUDIO_8K: 8000, AUDIO_16K: 16000}
#: 0x10 to 0x18 carry audio of 8 to 192 kHz.
_ALL_AUDIO = range(0x10, 0x19)
_HEAD_BYTES, _UUID_BYTES = 3, 16
_GOODBYE = Reply(bytes(_HEAD_BYTES))
#: Longest packet: a second at 16 kHz is 32,000 bytes, and Asterisk sends 20 ms.
MAX_PAYLOAD_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSocketSettings:
    """Settings of AudioSocket's port."""

    audiosocket_port: int = number(
        0,
        0,
        65_535,
        "",
        "TCP port for Asterisk's AudioSocket on the address of `gateway.host`; 0 opens none.",
    )


SETTINGS = AudioSocketSettings


def carrier(settings: Settings) -> TcpCarrier | None:
    """Build the carrier, None without `live.audiosocket_port`. Raises SetupError."""
    own, domain_id = settings.of_carrier(AudioSocketSettings), settings.live.domain
    if not own.audiosocket_port:
        return None
    if not domain_id:
        raise SetupError("setting live.audiosocket_port needs live.domain: AudioSocket names no domain")
    return TcpCarrier(
        title="AudioSocket",
        port=own.audiosocket_port,
        port_setting="live.audiosocket_port",
        make_adapter=lambda: AudioSocketAdapter(settings.account, domain_id),
    )


class AudioSocketAdapter:
    """Translates AudioSocket's packets. `receive` takes the bytes of the connection in any pieces."""

    def __init__(self, account_id: str, domain_id: str) -> None:
        self._account_id, self._domain_id = account_id, domain_id
        self._rest = b""
        self._named = self._ended = False
        self._decode = decoder("pcm_s16le")

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        if isinstance(message, str):
            raise StreamFault("AudioSocket has no text messages")
        if self._ended:
            return ()
        data = self._rest + message
        effects: list[Effect] = []
        sound: list[bytes] = []  # neighbouring packets of one rate make one effect
        rate_hz = at = 0
        while len(data) - at >= _HEAD_BYTES and not self._ended:
            kind, size = data[at], int.from_bytes(data[at + 1 : at + _HEAD_BYTES], "big")
            self._check(kind, size)
            start, end = at + _HEAD_BYTES, at + _HEAD_BYTES + size
            if end > len(data):
                break
            at = end
            if kind in _RATES_HZ:
                if sound and rate_hz != _RATES_HZ[kind]:
                    effects.append(self._audio(sound, rate_hz))
                    sound = []
                rate_hz = _RATES_HZ[kind]
                sound.append(data[start:end])
                continue
            if sound:
                effects.append(self._audio(sound, rate_hz))
                sound = []
            effects += self._other(kind, data[start:end])
        if sound:
            effects.append(self._audio(sound, rate_hz))
        self._rest = b"" if self._ended else data[at:]
        return effects

    @property
    def incomplete_packet(self) -> bytes:
        """The bytes of a packet that is not complete yet."""
        return self._rest

    def opened(self, session_id: str) -> Sequence[Effect]:
        return ()

    def refused(self, message: str) -> Sequence[Effect]:
        return (_GOODBYE, End(EndReason.NEVER_BEGAN))

    def ended(self, reason: EndReason) -> Sequence[Effect]:
        return (_GOODBYE, End(reason))

    def _check(self, kind: int, size: int) -> None:
        if not self._named and kind not in (IDENTITY, HANGUP, ERROR):
            raise StreamFault("the first packet is not the UUID")
        if size > MAX_PAYLOAD_BYTES:
            raise StreamFault(f"a packet is longer than {MAX_PAYLOAD_BYTES} bytes")
        if kind in _RATES_HZ:
            if size % 2:
                raise StreamFault("a packet ends in the middle of a sample")
        elif kind in _ALL_AUDIO:
            raise StreamFault("the audio is of a rate other than 8 or 16 kHz")
        elif kind == IDENTITY:
            if self._named or size != _UUID_BYTES:
                raise StreamFault("the UUID came twice, or is not one")
        elif kind not in (HANGUP, DTMF, ERROR):
            raise StreamFault("a packet is of a type that is not known")

    def _audio(self, sound: list[bytes], rate_hz: int) -> Audio:
        return Audio(self._decode(b"".join(sound)), rate_hz)

    def _other(self, kind: int, payload: bytes) -> list[Effect]:
        if kind == IDENTITY:
            self._named = True
            name = str(UUID(bytes=payload))
            call = Call(account_id=self._account_id, domain_id=self._domain_id, session=name, create=True)
            return [Open(call)]
        if kind == DTMF:
            return []
        self._ended = True
        return [End(EndReason.CALL_ENDED if kind == HANGUP else EndReason.DISCONNECTED)]
