"""A restore brings back who was deleted after the backup; events tell who that was."""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials
from client_faults import refused
from sample_requests import add_fraudster
from service_process import NO_JOBS, Ended, ServiceProcess, environment, running, sonant
from waiting import wait_until

pytestmark = pytest.mark.xdist_group("restored")  # one restore

SECRET = "correct horse battery"
THEIRS = "222222222222"
MADE_LATER = "0" * 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A service restored from a backup, and the events of the time between backup and restore."""

    service: ServiceProcess
    theirs: Any
    """A client of the second account."""
    domain_id: str
    their_domain_id: str
    suspended_id: str
    fraudster_id: str
    events: Path

    def repeat(self, *files: Path, profile: str = "administrator") -> Ended:
        return self.service.sonant(
            "domain", "repeat-deletions", *map(str, files or (self.events,)), "--yes", "--profile", profile
        )

    def statuses(self) -> dict[str, str]:
        found = self.service.voice_id.list_speakers(DomainId=self.domain_id)["SpeakerSummaries"]
        return {one["CustomerSpeakerId"]: one["Status"] for one in found}


def know(own: Any, domain_id: str, *names: str) -> None:
    """A session with a new speaker makes the speaker."""
    for name in names:
        own.start_session(DomainId=domain_id, SessionName=name)
        own.update_session(DomainId=domain_id, SessionNameOrId=name, SpeakerId=name)


def key_of(service: ServiceProcess, profile: str) -> Credentials:
    parser = configparser.ConfigParser()
    parser.read(service.data / "credentials")
    return Credentials(parser[profile]["aws_access_key_id"], parser[profile]["aws_secret_access_key"])


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    folder = tmp_path_factory.mktemp("restore")
    backup, events = folder / "sonant.backup", folder / "before" / "events" / "events.jsonl"
    with running(
        folder / "before", EVENTS_SINKS="file", QUOTAS_DOMAINS_PER_ACCOUNT="5", DELETIONS_LEDGER="false"
    ) as service:
        client, at = service.voice_id, {"DomainId": service.domain()}
        know(service.own_client(), at["DomainId"], "stays", "deleted", "refuses", "refuses-and-goes")
        default = client.describe_domain(**at)["Domain"]["WatchlistDetails"]["DefaultWatchlistId"]
        fraudster_id = add_fraudster(service, at["DomainId"], default)
        suspended_id = service.domain("suspended")
        know(service.own_client(), suspended_id, "somebody")

        policy = folder / "all.json"
        allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
        for command in (
            ("user", "put", "them", "--account", THEIRS, "--policy", str(policy)),
            ("create", "--user", "them", "--account", THEIRS, "--profile", "theirs"),
        ):
            assert service.sonant("access", *command).code == 0
        key = service.sonant("key", "create", "--account", THEIRS, "--alias", "alias/theirs")
        assert key.code == 0, key.err
        their_key = key_of(service, "theirs")
        theirs = service.client(their_key)
        their_domain_id = theirs.create_domain(
            Name="theirs", ServerSideEncryptionConfiguration={"KmsKeyId": "alias/theirs"}
        )["Domain"]["DomainId"]
        know(service.own_client(their_key), their_domain_id, "deleted")

        client.delete_domain(DomainId=suspended_id)
        made = service.sonant("backup", str(backup), SONANT_BACKUP_PASSPHRASE=SECRET)
        assert made.code == 0, made.err

        client.delete_speaker(**at, SpeakerId="deleted")
        for name in ("refuses", "refuses-and-goes", "came-later"):
            client.opt_out_speaker(**at, SpeakerId=name)
        client.delete_speaker(**at, SpeakerId="refuses-and-goes")
        client.delete_fraudster(**at, FraudsterId=fraudster_id)
        theirs.delete_speaker(DomainId=their_domain_id, SpeakerId="deleted")
        wait_until("the events", lambda: events.exists() and events.read_text().count("_SPEAKER") == 6)

    after = folder / "after"
    known = environment(SONANT_DATA=str(after), SONANT_BACKUP_PASSPHRASE=SECRET)
    done = sonant("restore", str(backup), env=known, cwd=folder)
    assert done.code == 0, done.err
    with running(after) as service:
        yield Restored(
            service=service,
            theirs=service.client(key_of(service, "theirs")),
            domain_id=at["DomainId"],
            their_domain_id=their_domain_id,
            suspended_id=suspended_id,
            fraudster_id=fraudster_id,
            events=events,
        )


@pytest.mark.slow
def test_deletions_since_the_backup_are_repeated(restored: Restored) -> None:
    before = restored.statuses()
    assert before == dict.fromkeys(("stays", "deleted", "refuses", "refuses-and-goes"), "PENDING")

    done = restored.repeat()

    assert restored.statuses() == {"stays": "PENDING", "refuses": "OPTED_OUT"}
    at, client = {"DomainId": restored.domain_id}, restored.service.voice_id
    assert refused(client.describe_speaker, **at, SpeakerId="deleted").resource_type == "SPEAKER"
    assert client.list_fraudsters(**at)["FraudsterSummaries"] == []
    assert done.out == ("speakers deleted: 2, opted out: 1, fraudsters deleted: 1, not there: 1, left: 1\n")
    assert (done.code, done.err) == (
        1,
        f"sonant: domain {restored.their_domain_id} of account {THEIRS} is not there for this access key, "
        "left in it: 1\n"
        "sonant: another account's domains need a key of that account (`sonant access create --profile`)\n",
    )


def test_other_accounts_deletions_need_their_key(restored: Restored) -> None:
    at = {"DomainId": restored.their_domain_id}
    assert len(restored.theirs.list_speakers(**at)["SpeakerSummaries"]) == 1

    done = restored.repeat(profile="theirs")

    assert done.out.startswith("speakers deleted: 1, opted out: 0, fraudsters deleted: 0,"), done.err
    assert f"domain {restored.domain_id} of account {'0' * 12} is not there" in done.err
    assert restored.theirs.list_speakers(**at)["SpeakerSummaries"] == []


def test_refusal_is_reported_and_the_rest_continues(restored: Restored, tmp_path: Path) -> None:
    know(restored.service.own_client(), restored.domain_id, "last")
    found = restored.service.voice_id.describe_speaker(DomainId=restored.domain_id, SpeakerId="last")
    first, last = (
        document("DELETE_SPEAKER", domain_id, speaker_id, status)
        for domain_id, speaker_id, status in (
            (restored.suspended_id, "id#" + "s" * 22, "SUCCEEDED"),
            (restored.domain_id, found["Speaker"]["GeneratedSpeakerId"], "SUCCESS"),  # an earlier release's
        )
    )
    sent = tmp_path / "sent-to-the-webhook.jsonl"
    sent.write_text(json.dumps([first, last]) + "\n" + json.dumps([last])[:-30])

    done = restored.repeat(sent)

    assert done.out == "speakers deleted: 1, opted out: 0, fraudsters deleted: 0, not there: 0, left: 1\n"
    cut, refusal = done.err.splitlines()
    assert cut == f"sonant: {sent}, line 2: cut short; its events are not known"
    assert refusal.startswith(
        f"sonant: DELETE_SPEAKER of id#{'s' * 22} in {restored.suspended_id}: ConflictException: "
    )
    assert done.code == 1
    assert "last" not in restored.statuses()


def test_second_run_exits_0(restored: Restored, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps(document("DELETE_SPEAKER", restored.domain_id, "id#" + "n" * 22)) + "\n")
    told = "speakers deleted: 0, opted out: 0, fraudsters deleted: 0, not there: 1, left: 0\n"
    assert restored.repeat(file) == Ended(code=0, out=told, err="")


def test_bad_file_and_unknown_profile_are_refused(restored: Restored, tmp_path: Path) -> None:
    strange = tmp_path / "trail.jsonl"
    strange.write_text('{"eventVersion": "1.10", "eventName": "DeleteSpeaker"}\n')
    done = restored.repeat(restored.events, strange)
    assert done == Ended(code=1, out="", err=f"sonant: {strange} holds no event of Sonant's\n")
    done = restored.repeat(profile="nobody")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("is not a credentials file with a profile [nobody]\n")


@pytest.mark.slow
def test_missing_service_ends_the_command(tmp_path: Path) -> None:
    with running(tmp_path / "data", **NO_JOBS) as service:
        pass
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps(document("DELETE_SPEAKER", MADE_LATER, "id#" + "n" * 22)) + "\n")
    done = service.sonant("domain", "repeat-deletions", str(file), "--yes")
    assert (done.code, done.out) == (1, "")
    assert "Could not connect" in done.err


def document(action: str, domain_id: str, speaker_id: str, status: str = "SUCCEEDED") -> dict[str, Any]:
    return {
        "source": "aws.voiceid",
        "detail-type": "VoiceId Speaker Action",
        "account": "0" * 12,
        "detail": {
            "action": action,
            "status": status,
            "domainId": domain_id,
            "generatedSpeakerId": speaker_id,
        },
    }
