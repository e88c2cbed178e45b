"""The new carrier authenticates, opens the session that it names and sends its audio."""

import json
from datetime import UTC, datetime

import numpy as np

from sonant.carriers.carrier import Audio, Open
from sonant.carriers.registry import configured_carriers
from sonant.carriers.request import StreamRequest
from sonant.errors import AccessDenied
from sonant.settings import Settings
from sonant.settings.listing import all_settings
from sonant.settings.loading import load

TOKEN = "a token of some length"


def request(token: str) -> StreamRequest:
    return StreamRequest(
        method="GET",
        raw_path=b"/stream/vonage",
        query=b"",
        headers=[(b"authorization", f"Bearer {token}".encode())],
        source_ip="192.0.2.1",
        secure=True,
        received_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


assert "vonage" not in configured_carriers(Settings())
settings = load(environment={"SONANT_LIVE_VONAGE_TOKEN": TOKEN})
assert all_settings()["live.vonage_token"].declared.secret
carrier = configured_carriers(settings)["vonage"]

try:
    carrier.authenticate(request("another token than this"))
except AccessDenied:
    adapter = carrier.authenticate(request(TOKEN))
else:
    raise AssertionError("a wrong token is accepted")

hello = {
    "event": "websocket:connected",
    "content-type": "audio/l16;rate=16000",
    "domain": "d" * 22,
    "session": "call-1",
    "speaker": "customer-4711",
}
(opening,) = adapter.receive(json.dumps(hello))
assert isinstance(opening, Open)
assert (opening.call.session, opening.call.speaker_id) == ("call-1", "customer-4711")
(audio,) = adapter.receive(np.arange(320, dtype="<i2").tobytes())
assert isinstance(audio, Audio)
assert audio.rate_hz == 16000
assert audio.samples.tolist() == list(range(320))
