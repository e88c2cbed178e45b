"""Audit trail and metrics of a running service, which hold no sensitive value."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from events_testbed import ServiceProcess, running
from strict_json import assert_same, read_json
from waiting import PATIENCE_S, wait_until

from sonant.cli.service_client import client
from sonant.gateway.models import load_models
from sonant.gateway.samples import sample
from sonant.gateway.scalars import Fault, string
from sonant.operations import OPERATIONS
from sonant.settings import Settings

TOKEN = "a-token-for-scrapers"

#: Operations in an order that leaves the later ones something to work on; the rest follows, deleting last.
FIRST = ("CreateDomain", "TagResource", "CreateWatchlist", "OptOutSpeaker", "ImportOptOuts")
LAST = (
    "UntagResource",
    "DeleteWatchlist",
    "DeleteSpeaker",
    "DeleteFraudster",
    "DeleteDomain",
    "RestoreDomain",
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running(
        tmp_path_factory.mktemp("audit") / "data",
        EVENTS_SINKS="file",
        EVENTS_POLL_S="0.05",
        METRICS_ENABLED="true",
        METRICS_TOKEN=TOKEN,
        METRICS_CACHE_S="0",
        RATES_FACTOR="0",
        JOBS_POLL_S="0.05",
        JOBS_WORKERS="1",
        QUOTAS_DOMAINS_PER_ACCOUNT="100",
    ) as service:
        yield service


def trail(service: ServiceProcess) -> list[dict[str, Any]]:
    files = sorted((service.data / "audit").iterdir())
    return [read_json(line) for path in files for line in path.read_bytes().splitlines()]


def last_of(service: ServiceProcess, operation: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [line for line in trail(service) if line["eventName"] == operation]
        return bool(found)

    wait_until("it is recorded", there)
    return found[-1]


def metrics(service: ServiceProcess, token: str = TOKEN) -> str:
    request = urllib.request.Request(service.url + "/metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return str(answer.read().decode())


def test_a_change_is_in_the_trail_when_it_is_answered(service: ServiceProcess) -> None:
    domain_id = service.domain()
    answer = service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer-1")
    line = trail(service)[-1]
    assert line["requestID"] == answer["ResponseMetadata"]["RequestId"]
    assert (line["eventName"], line["readOnly"]) == ("OptOutSpeaker", False)
    assert line["userIdentity"]["accessKeyId"] == service.credentials.access_key
    assert line["sourceIPAddress"] == "127.0.0.1"
    assert line["userAgent"].startswith("Boto3/")
    assert line["resources"][0]["ARN"].endswith(f":domain/{domain_id}")
    assert (
        line["responseElements"]["speaker"]["generatedSpeakerId"] == answer["Speaker"]["GeneratedSpeakerId"]
    )
    assert line["responseElements"]["speaker"]["customerSpeakerId"] == "HIDDEN_DUE_TO_SECURITY_REASONS"


def test_a_truth_in_an_answer_is_one_in_the_trail(service: ServiceProcess) -> None:
    domain_id = service.domain()
    made = service.voice_id.create_watchlist(DomainId=domain_id, Name="known")["Watchlist"]
    line = last_of(service, "CreateWatchlist")
    told = {name: line["responseElements"]["watchlist"][name] for name in ("defaultWatchlist", "watchlistId")}
    assert_same(told, {"defaultWatchlist": False, "watchlistId": made["WatchlistId"]})


def test_a_read_and_a_refusal_are_in_the_trail(service: ServiceProcess) -> None:
    with pytest.raises(ClientError):
        service.voice_id.describe_domain(DomainId="AbCdEfGhIjKlMnOpQrStUv")
    line = last_of(service, "DescribeDomain")
    assert (line["errorCode"], line["readOnly"]) == ("ResourceNotFoundException", True)


def test_call_with_a_wrong_secret_is_recorded_without_parameters(service: ServiceProcess) -> None:
    stranger = service.client(Credentials("AKIASTRANGER00000000", "wrong"))
    with pytest.raises(ClientError):
        stranger.delete_watchlist(DomainId="AbCdEfGhIjKlMnOpQrStUv", WatchlistId="AbCdEfGhIjKlMnOpQrStUv")
    line = last_of(service, "DeleteWatchlist")
    assert line["userIdentity"] == {"type": "Unknown", "accessKeyId": "AKIASTRANGER00000000"}
    assert line["errorCode"] == "UnrecognizedClientException"
    assert line["requestParameters"] is line["responseElements"] is None


def test_the_command_verifies_and_shows_the_trail(service: ServiceProcess) -> None:
    service.domain()
    verified = service.sonant("audit", "verify")
    assert (verified.code, verified.out.startswith("audit whole: ")) == (0, True)
    head = verified.out.rsplit(maxsplit=1)[-1]
    assert service.sonant("audit", "verify", "--head", head).code == 0
    assert service.sonant("audit", "verify", "--head", "0123").code == 1
    shown = service.sonant("audit", "show", "--operation", "CreateDomain", "--principal", "user/sonant")
    assert "CreateDomain by arn:aws:iam::000000000000:user/sonant" in shown.out
    assert service.sonant("audit", "show", "--since", "2999-01-01").out == ""
    assert "must be a time" in service.sonant("audit", "show", "--since", "yesterday").err


def test_cut_or_deleted_trail_of_a_running_service_fails_verification(
    service: ServiceProcess, tmp_path: Path
) -> None:
    for _ in range(4):
        service.domain()
    data = tmp_path / "copy"
    shutil.copytree(service.data, data, ignore=shutil.ignore_patterns("*.lock", "endpoint"))

    def verify() -> tuple[int, list[str]]:
        told = service.sonant("audit", "verify", "--output", "json", "--data", str(data))
        chains = json.loads(told.out)["Chains"]
        return told.code, [fault["Reason"] for one in chains for fault in one.get("Faults", ())]

    assert verify() == (0, [])
    (path,) = (data / "audit").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))
    assert verify() == (1, ["missing-tail"])
    shutil.rmtree(data / "audit")
    assert verify() == (1, ["missing-chain"])
    shutil.rmtree(data / "audit-keys")
    assert verify() == (1, ["missing-chain"]), "which the database knows of"


def test_new_key_is_written_once_and_used_from_the_next_start(
    service: ServiceProcess, tmp_path: Path
) -> None:
    file = tmp_path / "audit.key"
    assert "sonant audit" not in service.sonant("audit", "new-key", str(file)).err
    assert len(bytes.fromhex(file.read_text().strip())) == 32
    assert service.sonant("audit", "new-key", str(file)).code == 1, "it is there already"
    assert service.sonant("audit", "verify").code == 0, "lines of this start have the service's key"


def test_removal_before_today_finds_nothing_and_needs_a_day(service: ServiceProcess) -> None:
    removed = service.sonant("audit", "remove", "--before", "2001-01-01", "--reason", "-", "--yes")
    assert removed.out == "nothing is older than 2001-01-01\n"
    refused = service.sonant("audit", "remove", "--before", "soon", "--reason", "-", "--yes")
    assert "must be a day" in refused.err


def test_an_altered_trail_is_reported_with_file_and_line(service: ServiceProcess, tmp_path: Path) -> None:
    service.domain()
    copy = tmp_path / "data" / "audit"
    copy.mkdir(parents=True)
    (path,) = (service.data / "audit").iterdir()
    (copy / path.name).write_bytes(path.read_bytes().replace(b"CreateDomain", b"CreateDonain", 1))
    told = service.sonant("audit", "verify", "--data", str(tmp_path / "data"))
    assert told.code == 1
    assert told.out.startswith(f"broken at {copy / path.name}, line ")


def test_a_runner_and_a_reader_count_in_the_metrics(service: ServiceProcess) -> None:
    domain_id = service.domain()
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="customer-1")
    page = metrics(service)
    assert f'voiceid_speakers{{domain="{domain_id}"}} 1.0' in page
    assert 'voiceid_request_latency_seconds_count{operation="OptOutSpeaker"}' in page
    with pytest.raises(urllib.error.HTTPError, match="401"):
        metrics(service, "another")


def test_metrics_need_enabling_and_audit_can_be_disabled(tmp_path: Path) -> None:
    with running(tmp_path / "data", AUDIT_ENABLED="false") as service:
        service.domain()
        assert not (service.data / "audit").exists()
        assert not (service.data / "events").exists()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            metrics(service)
        assert "there is no audit trail" in service.sonant("audit", "verify").err


# --- nothing sensitive anywhere


class Canaries:
    """Requests with a value of its own in every sensitive member."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known
        self.made: list[str] = []
        self.generated: list[str] = []
        """In the form of the service's own ids, by which events of failed calls name whom they were about."""

    def request(self, shape: Any, name: str = "") -> Any:
        if shape.type_name == "structure":
            return {member: self.request(inner, member) for member, inner in shape.members.items()}
        if shape.type_name == "list":
            return [self.request(shape.member, name)]
        if shape.metadata.get("sensitive"):
            return self._canary(shape)
        return self.known.get(name) or sample(shape, name)

    def _canary(self, shape: Any) -> str:
        assert shape.type_name == "string", f"{shape.name} needs a canary of its own"
        number = len(self.made) + len(self.generated)
        for text in (f"CANARY{number:06d}", f"id#CANARY{number:016d}"):
            faults: list[Fault] = []
            string(shape)(text, faults)
            if not faults:
                made = self.generated if text.startswith("id#") else self.made
                made.append(text)
                return text
        raise AssertionError(f"{shape.name} takes none of the canaries")


def test_sensitive_values_reach_no_event_trail_metric_or_log(
    service: ServiceProcess,
) -> None:
    """Given canaries in every sensitive member of every operation, in calls that succeed, fail and break a
    constraint, then no file but the sealed database and the buckets has ever seen one."""
    domain = service.voice_id.describe_domain(DomainId=service.domain())["Domain"]
    known = {
        "DomainId": domain["DomainId"],
        "ResourceArn": domain["Arn"],
        "WatchlistId": domain["WatchlistDetails"]["DefaultWatchlistId"],
        "WatchlistIds": domain["WatchlistDetails"]["DefaultWatchlistId"],
        "KmsKeyId": "alias/sonant",
        "S3Uri": "s3://calls/absent.json",
        "DataAccessRoleArn": "arn:aws:iam::000000000000:role/sonant",
    }
    canaries = Canaries(known)
    operations = {one.name: one for one in load_models().operations.values() if one.name in OPERATIONS}
    middle = sorted(set(operations) - set(FIRST) - set(LAST))
    outcomes = {}
    settings = Settings(data=service.data)
    clients = {name: client(settings, name, service.url) for name in ("voice-id", "sonant")}
    for prepared in clients.values():
        prepared.meta.config.parameter_validation = False
    nobody = {**known, "DomainId": "AbCdEfGhIjKlMnOpQrStUv", "ResourceArn": domain["Arn"][:-22] + "A" * 22}
    for name in (*FIRST, *middle, *LAST):
        operation = operations[name]
        caller = clients["sonant" if operation.target.startswith("Sonant.") else "voice-id"]
        for where, broken in ((known, False), (nobody, False), (known, True)):
            canaries.known = where
            request = canaries.request(operation.input_shape)
            if broken:
                request = {member: _broken(value) for member, value in request.items()}
            request.pop("NextToken", None)
            request.pop("ClientToken", None)
            try:
                caller._make_api_call(name, request)
                outcomes[name, where is known, broken] = "done"
            except ClientError as fault:
                outcomes[name, where is known, broken] = fault.response["Error"]["Code"]
            except BotoCoreError as fault:  # the client itself refuses what it cannot write down
                assert broken, fault
    assert len(canaries.made) > 40
    assert canaries.generated
    changed = [
        name for (name, right, broken), what in outcomes.items() if what == "done" and right and not broken
    ]
    assert {*FIRST, "UpdateDomain", "StartSpeakerEnrollmentJob", "ListSpeakers"} <= set(changed), outcomes
    assert "InternalServerException" not in outcomes.values()

    wait_until("they are delivered", lambda: (service.data / "events" / "events.jsonl").exists())
    metrics_page = metrics(service)
    assert all(canary not in metrics_page for canary in canaries.made)
    with sqlite3.connect(service.data / "sonant.db") as database:
        database.execute("PRAGMA wal_checkpoint")
        documents = [row[0] for row in database.execute("SELECT document FROM events")]
    assert documents
    looked_at = [path for path in service.data.rglob("*") if path.is_file() and "buckets" not in path.parts]
    assert {"audit", "events", "sonant.db"} <= {path.relative_to(service.data).parts[0] for path in looked_at}
    for path in [*looked_at, service.data.with_name("data.log")]:
        content = path.read_bytes()
        if path.name.startswith("sonant.db") or path.parent.name == "events":
            content = re.sub(rb"id#CANARY\d{16}", b"", content)
        every = [*canaries.made, *(one.removeprefix("id#") for one in canaries.generated)]
        found = [canary for canary in every if canary.encode() in content]
        assert not found, f"{path} holds {found[:3]}"
    assert service.sonant("audit", "verify").code == 0


def _broken(value: Any) -> Any:
    """The same text, but against every pattern and length."""
    if isinstance(value, str):
        return "\u00a7 " + value * 60
    if isinstance(value, list):
        return [_broken(item) for item in value]
    if isinstance(value, dict):
        return {name: _broken(item) for name, item in value.items()}
    return value
