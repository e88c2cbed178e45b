"""Sonant's own operations but CompareRecording, and DeleteDomain, which RestoreDomain takes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from client_faults import refused
from sample_requests import ENCRYPTION, NOBODY
from service_process import NO_JOBS, ServiceProcess, running


@pytest.fixture(scope="module")
def own(service: ServiceProcess) -> Any:
    return service.own_client()


# --- consent ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service whose operator has not accepted the notice for everybody."""
    with running(tmp_path_factory.mktemp("asking") / "data", BIOMETRIC_CONSENT="false", **NO_JOBS) as service:
        yield service


def test_each_account_accepts_the_notice_once(asking: ServiceProcess) -> None:
    own = asking.own_client()
    other = asking.user({"Effect": "Allow", "Action": "*", "Resource": "*"}, account="111111111111")
    fault = refused(own.describe_compliance_consent)
    assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "COMPLIANCE_CONSENT")

    accepted_at = own.register_compliance_consent()["AcceptedAt"]

    assert own.register_compliance_consent()["AcceptedAt"] == accepted_at
    assert own.describe_compliance_consent()["AcceptedAt"] == accepted_at
    assert asking.domain()
    theirs = refused(asking.own_client(other).describe_compliance_consent)
    assert theirs.resource_type == "COMPLIANCE_CONSENT"
    fault = refused(asking.client(other).create_domain, Name="calls", **ENCRYPTION)
    assert fault.resource_type == "COMPLIANCE_CONSENT"


# --- many opt-outs ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_opt_outs_are_taken_in_at_once(service: ServiceProcess, domain_id: str, own: Any) -> None:
    ids = [f"customer-{number}" for number in range(1000)]
    service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId=ids[0])

    answer = own.import_opt_outs(DomainId=domain_id, SpeakerIds=ids)

    assert (answer["OptedOut"], answer["Unchanged"]) == (999, 1)
    pages = service.voice_id.get_paginator("list_speakers").paginate(DomainId=domain_id)
    found = [item for page in pages for item in page["SpeakerSummaries"]]
    assert {item["CustomerSpeakerId"] for item in found} == set(ids)
    assert {item["Status"] for item in found} == {"OPTED_OUT"}
    again = own.import_opt_outs(DomainId=domain_id, SpeakerIds=[*ids[:3], *ids[:3]])
    assert (again["OptedOut"], again["Unchanged"]) == (0, 3)


@pytest.mark.parametrize(
    "ids",
    [[], [f"customer-{number}" for number in range(1001)], ["good", "secret!"], ["good", ""], ["s" * 257]],
    ids=["none", "1001", "a bad character", "empty", "too long"],
)
def test_a_list_that_breaks_a_rule_opts_nobody_out(
    service: ServiceProcess, domain_id: str, ids: list[str]
) -> None:
    unchecked = service.own_client(parameter_validation=False)
    fault = refused(unchecked.import_opt_outs, DomainId=domain_id, SpeakerIds=ids)
    assert fault.code == "ValidationException"
    assert "secret" not in fault.message
    assert service.voice_id.list_speakers(DomainId=domain_id)["SpeakerSummaries"] == []


# --- export -------------------------------------------------------------------------------------------


def test_export_contains_what_describe_shows(service: ServiceProcess, domain_id: str, own: Any) -> None:
    who = {"DomainId": domain_id, "SpeakerId": "customer"}
    speaker = service.voice_id.opt_out_speaker(**who)["Speaker"]
    answer = own.export_speaker(**who)
    assert answer["Speaker"] == speaker
    assert "Voiceprint" not in answer
    assert own.export_speaker(**{**who, "SpeakerId": speaker["GeneratedSpeakerId"]})["Speaker"] == speaker
    fault = refused(own.export_speaker, DomainId=domain_id, SpeakerId="nobody")
    assert (fault.code, fault.resource_type) == ("ResourceNotFoundException", "SPEAKER")


# --- deletion and what takes it back --------------------------------------------------------------------


def test_a_deleted_domain_is_suspended_and_comes_back_whole(
    service: ServiceProcess, domain_id: str, own: Any
) -> None:
    at = {"DomainId": domain_id}
    speaker = service.voice_id.opt_out_speaker(**at, SpeakerId="customer")["Speaker"]
    before = service.voice_id.describe_domain(**at)["Domain"]

    for _ in range(2):  # again: no change
        assert set(service.voice_id.delete_domain(**at)) == {"ResponseMetadata"}

    suspended = service.voice_id.describe_domain(**at)["Domain"]
    assert suspended == {**before, "DomainStatus": "SUSPENDED", "UpdatedAt": suspended["UpdatedAt"]}
    assert refused(service.voice_id.describe_speaker, **at, SpeakerId="customer").resource_type == "DOMAIN"
    for _ in range(2):
        restored = own.restore_domain(**at)["Domain"]
        assert restored["DomainStatus"] == "ACTIVE"
        assert set(restored) == set(before)
    after = service.voice_id.describe_domain(**at)["Domain"]
    assert after == {**before, "UpdatedAt": after["UpdatedAt"]}
    assert after == restored
    assert service.voice_id.describe_speaker(**at, SpeakerId="customer")["Speaker"] == speaker


def test_a_domain_that_never_was_can_neither_be_deleted_nor_restored(
    service: ServiceProcess, own: Any
) -> None:
    for call in (service.voice_id.delete_domain, own.restore_domain):
        assert refused(call, DomainId=NOBODY).resource_type == "DOMAIN"


def test_the_command_line_restores_a_domain_too(service: ServiceProcess, domain_id: str) -> None:
    service.voice_id.delete_domain(DomainId=domain_id)
    done = service.sonant("domain", "restore", domain_id)
    assert (done.code, done.err) == (0, "")
    assert service.voice_id.describe_domain(DomainId=domain_id)["Domain"]["DomainStatus"] == "ACTIVE"
