"""Honest calls while others hold thousands of connections and have hostile recordings decoded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attackers import descriptors_for, held_connections
from client_faults import refused
from hostile_recordings import silent_flac
from sample_requests import add_enrolled
from service_process import ROLE, ServiceProcess, running
from waiting import PATIENCE_S

from sonant.assembly.installation import ROLE_POLICY

HONEST = "222222222222"
ALIAS = "alias/honest"
CONNECTIONS, RECORDINGS = 5000, 10
#: Long enough that the attack's work lasts while honest calls come and go.
SECONDS = 200.0
ROUNDS = 20


def honest_account(service: ServiceProcess, recording: bytes) -> tuple[Any, Any, str]:
    """Another account with a domain, a role, and a recording: its clients and the domain's id."""
    user = service.user({"Effect": "Allow", "Action": "*", "Resource": "*"}, account=HONEST)
    policy = service.data.parent / "jobs.json"
    policy.write_text(ROLE_POLICY)
    for command in (
        ("access", "role", "put", "jobs", "--account", HONEST, "--policy", str(policy)),
        ("key", "create", "--account", HONEST, "--alias", ALIAS),
    ):
        done = service.sonant(*command)
        assert done.code == 0, done.err
    bucket = service.data / "accounts" / HONEST / "buckets" / "calls"
    bucket.mkdir(parents=True)
    (bucket / "call.wav").write_bytes(recording)
    voice_id = service.client(user)
    answer = voice_id.create_domain(Name="honest", ServerSideEncryptionConfiguration={"KmsKeyId": ALIAS})
    domain_id = answer["Domain"]["DomainId"]
    add_enrolled(service, domain_id, "enrolled")
    return voice_id, service.own_client(user), domain_id


def comparison(domain_id: str, role: str, file: str) -> dict[str, Any]:
    return {
        "DomainId": domain_id,
        "DataAccessRoleArn": role,
        "AudioSpecification": {"S3Uri": f"s3://calls/{file}", "ChannelId": 0},
        "SpeakerIds": ["enrolled"],
    }


def call_honestly(voice_id: Any, domain_id: str) -> None:
    """Read and write; each call is made once and must succeed."""
    voice_id.describe_domain(DomainId=domain_id)
    watchlist = voice_id.create_watchlist(DomainId=domain_id, Name="honest")["Watchlist"]
    voice_id.list_watchlists(DomainId=domain_id)
    voice_id.delete_watchlist(DomainId=domain_id, WatchlistId=watchlist["WatchlistId"])


@pytest.mark.slow
def test_honest_calls_are_answered_before_the_attacks_own_work_ends(
    tmp_path: Path, make_call: Any, voices: Any
) -> None:
    connections = descriptors_for(CONNECTIONS)
    with running(tmp_path / "data", GATEWAY_MAX_CONNECTIONS=str(connections // 2)) as service:
        bucket = service.data / "buckets" / "calls"
        bucket.mkdir(parents=True, exist_ok=True)
        (bucket / "hostile.flac").write_bytes(silent_flac(SECONDS))
        hostile_domain = service.domain()
        add_enrolled(service, hostile_domain, "enrolled")
        voice_id, own, domain_id = honest_account(
            service, make_call(next(iter(voices)), 1, net_speech_s=12.0)
        )
        attacker = service.own_client(read_timeout=PATIENCE_S)
        asked = comparison(hostile_domain, ROLE, "hostile.flac")
        with (
            held_connections(service.port, connections),
            ThreadPoolExecutor(RECORDINGS) as threads,
        ):
            attack = [threads.submit(refused, attacker.compare_recording, **asked) for _ in range(RECORDINGS)]
            for _ in range(ROUNDS):
                call_honestly(voice_id, domain_id)
            compared = own.compare_recording(
                **comparison(domain_id, f"arn:aws:iam::{HONEST}:role/jobs", "call.wav")
            )
            assert len(compared["Comparisons"]) == 1
            assert not all(one.done() for one in attack), "the honest calls waited for the attack's"
            answers = [one.result() for one in attack]
        assert {answer.code for answer in answers} == {"ValidationException"}
        assert all("not enough speech" in answer.message for answer in answers)
        call_honestly(voice_id, domain_id)
    log = (tmp_path / "data.log").read_text()
    assert "Traceback" not in log
    assert log.count("connections lost") <= 20, "one line a minute, not one a connection"
