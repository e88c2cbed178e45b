"""What a served Sonant tells has, member by member, the shapes of Voice ID's own sample events.

`event_shapes.json` has the shapes: members in their order, kinds of values, null where there is none, words.
Real jobs and real calls make the events.
"""

from __future__ import annotations

import io
import json
import re
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from carried_calls import opened, samples_of, stream_url
from event_checks import LATER, check
from service_process import ROLE, ServiceProcess, running
from sqlalchemy import update
from waiting import wait_until
from websockets.sync.client import ClientConnection

from sonant.storage.database.schema import domains

SHAPES = json.loads(Path(__file__).with_name("event_shapes.json").read_text())
CONTACT = "arn:aws:connect:us-west-2:000000000000:instance/11112222-3333-4444-5555-666677778888/contact/c-1"
SETTINGS = {
    "EVENTS_SINKS": "file",
    "EVENTS_POLL_S": "0.05",
    "JOBS_POLL_S": "0.05",
    "JOBS_WORKERS": "1",
    "ENROLLMENT_NET_SPEECH_S": "6",
    "REGISTRATION_NET_SPEECH_S": "6",
}
#: A service that hears and tells nothing for so long will not; a busy machine needs a while.
FRAME_BYTES = 3200

_FORMS = {
    "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "generated id": r"id#[A-Za-z0-9]{22}",
    "id": r"[A-Za-z0-9]{22}",
    "arn": r"arn:aws:.+",
    "s3 uri": r"s3://.+",
    "account": r"\d{12}",
    "region": r"[a-z]{2}-[a-z]+-\d",
    "text": r".+",
}
NAMES = [
    f"{detail['action']} {detail['status']} {(detail['errorInfo'] or {}).get('errorType', '')}".strip()
    for detail in (shape["detail"] for shape in SHAPES["events"])
]


def fits(value: Any, shape: Any) -> bool:
    """Whether a value has a shape: members in the same order, kinds, words and nulls the same."""
    if isinstance(shape, dict):
        return (
            isinstance(value, dict)
            and [name for name in value if name not in LATER] == list(shape)
            and all(fits(value[name], shape[name]) for name in shape)
        )
    if isinstance(shape, list):
        return isinstance(value, list) and len(value) == len(shape) and all(map(fits, value, shape))
    if shape == "integer":
        return type(value) is int
    if shape in _FORMS:
        return isinstance(value, str) and re.fullmatch(_FORMS[shape], value) is not None
    return bool(value == shape)


# --- the story -----------------------------------------------------------------------------------------


def filed(data: Path) -> list[dict[str, Any]]:
    path = data / "events" / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(what: Callable[[], bool], name: str) -> None:
    wait_until(f"{name} is told", what)


def until_told(data: Path, action: str, status: str, times: int = 1) -> None:
    def count() -> int:
        told = [(one["detail"]["action"], one["detail"]["status"]) for one in filed(data)]
        return told.count((action, status))

    wait_for(lambda: count() >= times, f"{action} {status}")


class Story:
    """A domain in which everything happens that Voice ID has a sample of."""

    def __init__(self, service: ServiceProcess, speech: bytes, call: bytes) -> None:
        self.service, self.voice_id, self.own = service, service.voice_id, service.own_client()
        self.domain, self.started = service.domain(), Counter[str]()
        self.at = {"DomainId": self.domain}
        self.call = samples_of(call).tobytes()
        answer = self.voice_id.describe_domain(**self.at)["Domain"]
        self.key = answer["ServerSideEncryptionConfiguration"]["KmsKeyId"]
        self.bucket = service.data / "buckets" / "calls"
        self.bucket.mkdir()
        (self.bucket / "speech.wav").write_bytes(speech)
        (self.bucket / "short.wav").write_bytes(silence(8000))
        (self.bucket / "slow.wav").write_bytes(silence(3000))

    def refused(self, what: Callable[..., Any], **request: Any) -> None:
        with pytest.raises(ClientError):
            what(**self.at, **request)

    # --- jobs

    def manifest(self, name: str, kind: str, files: dict[str, str], version: str = "1.0") -> dict[str, Any]:
        """The members of a start call for a manifest with these recordings, by speaker."""
        requests = [
            {
                "RequestId": speaker,
                **({"SpeakerId": speaker} if kind == "SpeakerEnrollmentRequests" else {}),
                "AudioSpecifications": [{"S3Uri": f"s3://calls/{file}", "ChannelId": 0}],
            }
            for speaker, file in files.items()
        ]
        (self.bucket / name).write_text(json.dumps({"Version": version, kind: requests}))
        return {
            **self.at,
            "DataAccessRoleArn": ROLE,
            "InputDataConfig": {"S3Uri": f"s3://calls/{name}"},
            "OutputDataConfig": {"S3Uri": "s3://calls/results", "KmsKeyId": self.key},
        }

    def enroll(self, name: str, files: dict[str, str], version: str = "1.0") -> None:
        fraud = {"FraudDetectionAction": "FAIL", "RiskThreshold": 100}
        self.voice_id.start_speaker_enrollment_job(
            **self.manifest(name, "SpeakerEnrollmentRequests", files, version),
            EnrollmentConfig={"ExistingEnrollmentAction": "SKIP", "FraudDetectionConfig": fraud},
        )
        self.ended("BATCH_SPEAKER_ENROLLMENT_REQUEST")

    def register(self, name: str, files: dict[str, str]) -> None:
        config = {"DuplicateRegistrationAction": "REGISTER_AS_NEW", "FraudsterSimilarityThreshold": 90}
        self.voice_id.start_fraudster_registration_job(
            **self.manifest(name, "FraudsterRegistrationRequests", files), RegistrationConfig=config
        )
        self.ended("BATCH_FRAUDSTER_REGISTRATION_REQUEST")

    def ended(self, action: str) -> None:
        """Wait until the end of a job just started is told."""
        self.started[action] += 1

        def ends() -> int:
            told = [one["detail"] for one in filed(self.service.data)]
            return sum(one["action"] == action and one["status"] != "SUBMITTED" for one in told)

        wait_for(lambda: ends() == self.started[action], f"the end of {action}")

    def jobs(self) -> None:
        self.enroll("some.json", {"ann": "speech.wav", "bob": "short.wav"})
        self.enroll("known.json", {"ann": "speech.wav"})
        self.enroll("future.json", {"ann": "speech.wav"}, version="2.0")
        self.register("mixed.json", {"one": "speech.wav", "two": "slow.wav"})
        self.register("whole.json", {"three": "speech.wav"})
        listed = self.voice_id.list_fraudsters(**self.at)["FraudsterSummaries"]
        for fraudster in listed:
            fraudster_id = fraudster["GeneratedFraudsterId"]
            self.voice_id.delete_fraudster(**self.at, FraudsterId=fraudster_id)
        self.refused(self.voice_id.delete_fraudster, FraudsterId=fraudster_id)

    # --- calls

    def start(self, name: str) -> None:
        self.own.start_session(**self.at, SessionName=name, SpeakerId="ann", ContactArn=CONTACT)

    @contextmanager
    def streaming(self, name: str) -> Iterator[ClientConnection]:
        """A call of which a second has been heard."""
        begun = [one["detail"]["status"] for one in filed(self.service.data)].count("STREAMING_STARTED")
        named = {**self.at, "SessionNameOrId": name}
        with opened(stream_url(self.service, named)) as connection:
            connection.send(self.call[: 5 * FRAME_BYTES])
            until_told(self.service.data, "START_SESSION", "STREAMING_STARTED", begun + 1)
            yield connection

    def calls(self) -> None:
        self.start("call-1")
        self.own.enroll_by_session(**self.at, SessionNameOrId="call-1")
        with self.streaming("call-1") as connection:
            for place in range(5 * FRAME_BYTES, len(self.call), FRAME_BYTES):
                connection.send(self.call[place : place + FRAME_BYTES])
            connection.send(json.dumps({"type": "end"}))
            until_told(self.service.data, "START_SESSION", "STREAMING_ENDED")
        self.start("call-2")
        with self.streaming("call-2"):
            named = {"SessionNameOrId": "call-2"}
            self.voice_id.evaluate_session(**self.at, **named)
            self.own.update_session(**self.at, **named, FraudDetectionConfiguration={"RiskThreshold": 60})
            self.refused(self.own.update_session, **named, SpeakerId="id#" + "x" * 22)
            made = self.voice_id.create_watchlist(**self.at, Name="deleted")["Watchlist"]
            deleted = {"WatchlistId": made["WatchlistId"]}
            self.own.update_session(**self.at, **named, FraudDetectionConfiguration=deleted)
            self.voice_id.delete_watchlist(**self.at, **deleted)
            self.refused(self.voice_id.evaluate_session, **named)

    # --- people

    def people(self) -> None:
        speaker = self.voice_id.opt_out_speaker(**self.at, SpeakerId="cid")["Speaker"]
        speaker_id = speaker["GeneratedSpeakerId"]
        self.voice_id.delete_speaker(**self.at, SpeakerId=speaker_id)
        self.refused(self.voice_id.delete_speaker, SpeakerId=speaker_id)
        with self.service.store.database.write() as connection:
            connection.execute(update(domains).values(data_key_wrapped=b"damaged"))
        self.refused(self.voice_id.opt_out_speaker, SpeakerId=speaker_id)
        until_told(self.service.data, "OPT_OUT_SPEAKER", "FAILED")


def silence(rate_hz: int) -> bytes:
    """A WAV file with half a second of silence."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(bytes(rate_hz))
    return made.getvalue()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, make_call: Any, voices: Any) -> list[dict[str, Any]]:
    """All events of the story. In its middle the service is killed while it listens to a call."""
    data, voice = tmp_path_factory.mktemp("told") / "data", next(iter(voices))
    speech = bytes(make_call(voice, 1, net_speech_s=9.0, channels=1))
    call = bytes(make_call(voice, 2, fresh=True, net_speech_s=13.0, channels=1))
    with running(data, **SETTINGS) as service:
        story = Story(service, speech, call)
        story.jobs()
        story.calls()
        story.start("call-3")
        with story.streaming("call-3"):
            service.process.kill()
            service.process.wait()
    (data / "endpoint").unlink()
    with running(data, **SETTINGS) as service:
        until_told(data, "START_SESSION", "STREAMING_FAILED")
        story.service, story.voice_id = service, service.voice_id
        story.people()
    return filed(data)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", SHAPES["events"], ids=NAMES)
def test_an_event_of_each_shape_is_sent(told: list[dict[str, Any]], shape: dict[str, Any]) -> None:
    alike = [one["detail"] for one in told if one["detail"]["action"] == shape["detail"]["action"]]
    assert any(fits(one, shape["detail"]) for one in alike), json.dumps(alike, indent=1)


def test_every_envelope_has_the_samples_shape(told: list[dict[str, Any]]) -> None:
    types = {shape["detail-type"] for shape in SHAPES["events"]}
    of_voice_id = [one for one in told if one["source"] == "aws.voiceid"]
    assert {one["detail-type"] for one in of_voice_id} == types
    for one in of_voice_id:
        small = {**one, "detail": "detail", "detail-type": "detail-type"}
        assert fits(small, SHAPES["envelope"]), one


def test_every_event_of_the_story_fits_the_schema(told: list[dict[str, Any]]) -> None:
    for one in told:
        check(one)


def test_every_event_is_known_by_one_id(told: list[dict[str, Any]]) -> None:
    ids = {one["detail"]["sourceId"]: one["id"] for one in told}
    assert len(set(ids.values())) == len(ids)
