"""The new carrier authenticates, opens the session that it names and sends its audio."""

import base64
import json
from datetime import UTC, datetime

from sonant.carriers.carrier import Audio, Open
from sonant.carriers.registry import configured_carriers
from sonant.carriers.request import StreamRequest
from sonant.errors import AccessDenied
from sonant.settings import Live, Settings
from sonant.settings.listing import all_settings
from sonant.settings.loading import load

PASSWORD = "a password of some length"


def request(password: str) -> StreamRequest:
    credentials = base64.b64encode(f"calls:{password}".encode())
    return StreamRequest(
        method="GET",
        raw_path=b"/stream/bandwidth",
        query=b"",
        headers=[(b"authorization", b"Basic " + credentials)],
        source_ip="192.0.2.1",
        secure=True,
        received_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


assert "bandwidth" not in configured_carriers(Settings(live=Live()))
environment = {"SONANT_LIVE_BANDWIDTH_USER": "calls", "SONANT_LIVE_BANDWIDTH_PASSWORD": PASSWORD}
settings = load(environment=environment)
assert all_settings()["live.bandwidth_password"].declared.secret
carrier = configured_carriers(settings)["bandwidth"]

try:
    carrier.authenticate(request("another password than this"))
except AccessDenied:
    adapter = carrier.authenticate(request(PASSWORD))
else:
    raise AssertionError("a wrong password is accepted")

start = {
    "eventType": "start",
    "metadata": {"accountId": "5555555", "callId": "c-1234", "streamId": "s-1234", "tracks": []},
    "streamParams": {"domain": "d" * 22, "session": "call-1", "speaker": "customer-4711"},
}
(opening,) = adapter.receive(json.dumps(start))
assert isinstance(opening, Open)
assert (opening.call.session, opening.call.speaker_id) == ("call-1", "customer-4711")
media = {"eventType": "media", "track": "inbound", "payload": base64.b64encode(b"\xff" * 160).decode()}
(audio,) = adapter.receive(json.dumps(media))
assert isinstance(audio, Audio)
assert (audio.rate_hz, audio.samples.tolist()) == (8000, [0] * 160)
