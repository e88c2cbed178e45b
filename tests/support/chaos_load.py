"""What runs in a world while it is hurt: jobs, live calls and small changes, each checked as it ends.

Every call goes to one of the services and is repeated at another until it is answered. What has been answered
counts: it must be in effect whatever happens next.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import boto3
import botocore.session
import numpy as np
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from chaos_world import PATIENCE_S, REGION, Member, World, wait_for
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from sonant.cli.credentials import read_credentials
from sonant.gateway.models import DATA_PATH
from sonant.storage.crypto.vault import open_vault
from sonant.storage.repositories import domains, fraud_voices, speakers, templates

ROLE = "arn:aws:iam::000000000000:role/sonant"
FINAL = ("COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED")
MARKER = "planted-marker"
"""Part of every customer's id: nothing that holds it may lie open on a disk."""
JOB_S = PATIENCE_S + 60.0
KINDS = {
    "enrollment": ("speaker_enrollment_job", "SpeakerEnrollmentRequests"),
    "registration": ("fraudster_registration_job", "FraudsterRegistrationRequests"),
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "enrollment": {"EnrollmentConfig": {"ExistingEnrollmentAction": "OVERWRITE"}},
    "registration": {
        "RegistrationConfig": {"DuplicateRegistrationAction": "SKIP", "FraudsterSimilarityThreshold": 90}
    },
}
FRAME_BYTES = 3200


class Front:
    """All services of a world behind one client."""

    def __init__(self, world: World) -> None:
        self._world = world
        key_id, secret = read_credentials(world.settings)
        self._credentials = Credentials(key_id, secret)
        self._local = threading.local()

    def _client(self, member: Member, name: str) -> Any:
        made = self._local.__dict__.setdefault("made", {})
        if (member.port, name) not in made:
            session = botocore.session.Session()
            session.set_config_variable("data_path", str(DATA_PATH))
            made[member.port, name] = boto3.Session(botocore_session=session).client(
                name,
                region_name=REGION,
                endpoint_url=member.url,
                aws_access_key_id=self._credentials.access_key,
                aws_secret_access_key=self._credentials.secret_key,
                config=Config(
                    retries={"total_max_attempts": 1}, proxies={}, connect_timeout=5, read_timeout=20
                ),
            )
        return made[member.port, name]

    def call(
        self, operation: str, *, service: str = "voice-id", first: Member | None = None, **what: Any
    ) -> Any:
        """The answer, or the ClientError that it was refused with; `first` is asked first.

        Faults of the service are tried again; so is what it refuses while its clock is wrong.
        """
        until = time.monotonic() + PATIENCE_S
        for turn in itertools.count():
            member = self._world.apis[(turn + id(threading.current_thread())) % len(self._world.apis)]
            if first is not None and turn == 0:
                member = first
            try:
                return getattr(self._client(member, service), operation)(**what)
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                again = status >= 500 or error.response["Error"]["Code"] == "InvalidSignatureException"
                if not again or time.monotonic() > until:
                    raise
            except BotoCoreError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.1)
        raise AssertionError

    def stream(self, member: Member, domain_id: str, session: str, samples: bytes) -> str:
        """Bring audio to a session; the reason that the service closed with."""
        query = {
            "DomainId": domain_id,
            "SessionNameOrId": session,
            "Encoding": "pcm_s16le",
            "SampleRate": "8000",
            "Channels": "1",
            "Channel": "0",
        }
        request = AWSRequest("GET", f"{member.url}/stream?{urlencode(query, quote_via=quote)}")
        SigV4QueryAuth(self._credentials, "voiceid", REGION, expires=60).add_auth(request)
        url = "ws" + str(request.url).removeprefix("http")
        with connect(url, compression=None, proxy=None, open_timeout=10, close_timeout=5) as line:
            for place in range(0, len(samples), FRAME_BYTES):
                line.send(samples[place : place + FRAME_BYTES])
            line.send(json.dumps({"type": "end"}))
            while True:
                try:
                    line.recv(timeout=30)
                except TimeoutError:
                    return "SILENT"
                except WebSocketException:
                    return line.close_reason or ""


@dataclass(repr=False)
class Load:
    """What runs, and what it has found."""

    world: World
    front: Front
    recordings: dict[str, bytes]
    samples: dict[str, bytes]
    """16-bit speech of the customer's channel, by the recordings' names."""
    key_was_off: Callable[[float], bool]
    """Whether the weak key was disabled at any time since a moment."""
    jobs: int = 0
    failed_for_the_key: int = 0
    calls: int = 0
    cut_calls: int = 0
    changes: int = 0
    faults: list[str] = field(default_factory=list)
    opted_out: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    vectors: list[bytes] = field(default_factory=list)
    """Voiceprints, as they may lie nowhere."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._expected: dict[str, Any] = {}
        self._numbers = itertools.count()
        for name, recording in self.recordings.items():
            self.world.put("calls", name, recording)
        self.world.put("results", "here", b"")
        self.domain_id = self._domain(self.world.key)
        self._enroll_callers()
        for kind in ("enrollment", "registration"):  # undisturbed, to compare with
            self._expected[kind] = self._job(kind)
        self._threads = [
            threading.Thread(target=self._again, args=(work,), name=work.__name__)
            for work in (self._one_job, self._one_call, self._one_change)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(JOB_S + PATIENCE_S)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def _again(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                work()
            except Exception as fault:  # noqa: BLE001 - told at the end of the test, which then fails
                self.faults.append(f"{work.__name__}: {type(fault).__name__}: {fault}")
                time.sleep(1)

    # --- jobs

    def _domain(self, key: str) -> str:
        token = str(uuid.uuid4())
        made = self._patiently(
            "create_domain",
            Name="chaos",
            ServerSideEncryptionConfiguration={"KmsKeyId": key},
            ClientToken=token,
        )
        return str(made["Domain"]["DomainId"])

    def _patiently(self, operation: str, **what: Any) -> Any:
        """A call that a disabled key may refuse for a while."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.front.call(operation, **what)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                key = code in ("AccessDeniedException", "ValidationException", "ConflictException")
                if not key or not self.key_was_off(time.monotonic() - 5) or time.monotonic() > until:
                    raise
                time.sleep(0.3)

    def _enroll_callers(self) -> None:
        entries = [_entry("r", f"{MARKER}-caller", "english.wav")]
        job = self._run(self.domain_id, "enrollment", entries)
        assert job["JobStatus"] == "COMPLETED", job

    def _one_job(self) -> None:
        kind = ("enrollment", "registration")[self.jobs % 2]
        begun = time.monotonic()
        found = self._job(kind)
        if found is None:
            assert self.key_was_off(begun), "a job failed as for a disabled key, and none was"
            self.failed_for_the_key += 1
        else:
            assert found == self._expected[kind], f"another result: {found}"
        self.jobs += 1

    def _job(self, kind: str) -> Any:
        """What a job left, without ids drawn by chance; None if its domain's key was disabled."""
        domain_id = self._domain(self.world.weak_key)
        job = self._run(domain_id, kind, _entries(kind))
        if job["JobStatus"] == "FAILED":
            assert job["FailureDetails"]["StatusCode"] == 403, job
            assert job["FailureDetails"]["Message"].startswith("the domain's KMS key cannot be used"), job
            return None
        result = json.loads(self.world.get("results", f"{job['JobId']}/manifest.json.out"))
        ids = {line["RequestId"] for lines in result.values() if isinstance(lines, list) for line in lines}
        assert ids == {entry["RequestId"] for entry in _entries(kind)}, "an entry lost"
        assert sum(len(lines) for lines in result.values() if isinstance(lines, list)) == len(ids), "doubled"
        return {
            "status": job["JobStatus"],
            "result": {
                name: [_told(line) for line in lines] for name, lines in result.items() if name != "Version"
            },
            "left": self._left(domain_id, kind, result),
        }

    def _run(self, domain_id: str, kind: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
        noun, requests = KINDS[kind]
        number = next(self._numbers)
        manifest = json.dumps({"Version": "1.0", requests: entries}).encode()
        uri = self.world.put("jobs", f"{number}/manifest.json", manifest)
        started = self._patiently(
            f"start_{noun}",
            DomainId=domain_id,
            DataAccessRoleArn=ROLE,
            InputDataConfig={"S3Uri": uri},
            OutputDataConfig={"S3Uri": "s3://results"},
            ClientToken=str(uuid.uuid4()),
            **CONFIGURATIONS[kind],
        )["Job"]

        def ended() -> Any:
            job = self._patiently(f"describe_{noun}", DomainId=domain_id, JobId=started["JobId"])["Job"]
            return job if job["JobStatus"] in FINAL else None

        job: dict[str, Any] = wait_for(f"job {started['JobId']} ends", ended, JOB_S)
        return job

    def _left(self, domain_id: str, kind: str, result: dict[str, Any]) -> dict[str, Any]:
        """The voices that a job left, by customer or request, as far as they can be told from one another:
        the first numbers of each vector."""
        store = self.world.store
        found: dict[str, Any] = {}

        def look() -> bool:
            try:
                with store.database.read() as connection:
                    domain = domains.find_by_id(connection, domain_id)
                    assert domain is not None
                    keys = store.backends.keys(domain.account_id)
                    vault = open_vault(keys, domain_id, domain.arn, domain.data_key_wrapped)
                    spaces = templates.open_spaces(connection, vault.templates)
                    if kind == "enrollment":
                        for speaker in speakers.page(connection, domain_id, None, 1000):
                            stored = speakers.load_sample(connection, vault, speaker)
                            assert (stored is not None) == (speaker.status == "ENROLLED")
                            if stored is not None:
                                self.vectors.append(stored.to_bytes())
                                found[speaker.customer_id(vault)] = spaces.original(stored).to_bytes()
                    else:
                        names = {
                            line["GeneratedFraudsterId"]: line["RequestId"]
                            for line in result["SuccessfulRegistrations"]
                            if line["RegistrationStatus"] == "NEW_REGISTRATION"
                        }
                        known = fraud_voices.ids(connection, domain_id, None)
                        assert set(known) == set(names), "a fraudster without its outcome"
                        for fraudster_id, sample in fraud_voices.load(connection, vault, spaces, known):
                            self.vectors.append(sample.to_bytes())
                            found[names[fraudster_id]] = spaces.original(sample).to_bytes()
                return True
            except AssertionError:
                raise
            except Exception:  # noqa: BLE001 - the database or the key is away: look again
                found.clear()
                return False

        wait_for("the job's voices can be read", look)
        del self.vectors[:-20]
        return {
            name: [round(float(part), 3) for part in np.frombuffer(vector, "<f4")[:6]]
            for name, vector in found.items()
        }

    # --- live calls

    def _one_call(self) -> None:
        """A call of the enrolled caller, or of somebody in his name; one that was cut says nothing."""
        right = self.calls % 2 == 0
        name = str(uuid.uuid4())
        speaker = f"{MARKER}-caller"
        try:
            self.front.call(
                "start_session",
                service="sonant",
                DomainId=self.domain_id,
                SessionName=name,
                SpeakerId=speaker,
            )
            member = self.world.apis[self.calls % len(self.world.apis)]
            reason = self.front.stream(
                member, self.domain_id, name, self.samples["english-again.wav" if right else "french.wav"]
            )
            told = self.front.call("evaluate_session", DomainId=self.domain_id, SessionNameOrId=name)
        except (OSError, WebSocketException, ClientError, BotoCoreError) as fault:
            if isinstance(fault, ClientError):
                code = fault.response["Error"]["Code"]
                assert code in ("ConflictException", "InternalServerException", "ThrottlingException"), fault
            self.cut_calls += 1
            time.sleep(0.3)
            return
        if reason != "CALL_ENDED":
            self.cut_calls += 1
            time.sleep(0.3)
            return
        decision = told["AuthenticationResult"]["Decision"]
        assert decision == ("ACCEPT" if right else "REJECT"), (right, decision)
        self.calls += 1

    # --- small changes

    def _one_change(self) -> None:
        """Somebody opts out, or is deleted; afterwards that is so, whoever is asked."""
        number = next(self._numbers)
        name = f"{MARKER}-{number}"
        self.front.call("opt_out_speaker", DomainId=self.domain_id, SpeakerId=name)
        if number % 3 == 0:
            try:
                self.front.call("delete_speaker", DomainId=self.domain_id, SpeakerId=name)
            except ClientError as error:  # answered before, and the answer was lost
                assert error.response["Error"]["Code"] == "ResourceNotFoundException", error
            self.deleted.add(name)
        else:
            self.opted_out.add(name)
        self.changes += 1
        time.sleep(0.15)


def _told(line: dict[str, Any]) -> dict[str, Any]:
    """A line of a result without the ids that every run draws anew."""
    return {name: text for name, text in line.items() if not name.startswith("Generated")}


def _entry(request: str, speaker: str, name: str) -> dict[str, Any]:
    return {
        "RequestId": request,
        "SpeakerId": speaker,
        "AudioSpecifications": [{"S3Uri": f"s3://calls/{name}", "ChannelId": 0}],
    }


def _entries(kind: str) -> list[dict[str, Any]]:
    """Good requests, and among them a missing file, too little speech and somebody who comes twice."""
    found = []
    for number, name in enumerate(
        ["english.wav", "french.wav", "none.wav", "italian.wav", "italian-short.wav", "russian.wav",
         "english-again.wav", "russian-again.wav", "french-again.wav", "italian-again.wav"]
    ):  # fmt: skip
        voice = name.partition(".")[0].partition("-")[0]
        found.append(_entry(f"request-{number}", f"{MARKER}-{voice}", name))
    if kind == "registration":
        for entry in found:
            del entry["SpeakerId"]
    return found
