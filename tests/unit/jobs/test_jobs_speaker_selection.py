"""Sonant's own members of a manifest request: SpeakerSelection and AgentVoices."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import cast

import pytest

from sonant.assembly.jobs import manifest_rules
from sonant.jobs.batch import open_request, seal_request
from sonant.jobs.manifest import AudioFile, BadRequest, EnrollmentRequest, read_manifest
from sonant.settings import Enrollment, Settings
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories.jobs import DRY_RUN, ENROLLMENT, REGISTRATION

FILE = {"S3Uri": "s3://calls/a.wav", "ChannelId": 0}
AGENT = {"S3Uri": "s3://agents/17.wav", "ChannelId": 1}
ENTRY = {"RequestId": "r1", "SpeakerId": "customer-1", "AudioSpecifications": [FILE]}
BY_DEFAULT = Settings(enrollment=Enrollment(speaker_selection="RECURRING"))


def read(kind=ENROLLMENT, settings=None, **members):
    rules = manifest_rules(settings or Settings(), kind)
    document = {"Version": "1.0", rules.list_name: [{**ENTRY, **members}]}
    (entry,) = read_manifest([json.dumps(document).encode()], rules)
    return entry


def fault(**members):
    entry = read(**members)
    assert isinstance(entry, BadRequest), entry
    return entry.message


def test_request_without_the_members_is_what_it_always_was():
    audio = (AudioFile(s3_uri="s3://calls/a.wav", channel=0),)
    assert read() == EnrollmentRequest(request_id="r1", speaker_id="customer-1", audio=audio)
    assert read().selection == "CHANNEL"


@pytest.mark.parametrize("kind", [ENROLLMENT, DRY_RUN])
def test_selection_and_agents_are_read(kind):
    entry = read(kind, SpeakerSelection="RECURRING", AgentVoices=[AGENT])
    assert entry.selection == "RECURRING"
    assert entry.agents == (AudioFile(s3_uri="s3://agents/17.wav", channel=1),)


def test_setting_is_the_default_of_requests_that_name_none():
    assert read(settings=BY_DEFAULT).selection == "RECURRING"
    assert read(settings=BY_DEFAULT, SpeakerSelection="CHANNEL").selection == "CHANNEL"
    assert read(settings=BY_DEFAULT, AgentVoices=[AGENT]).agents


@pytest.mark.parametrize("value", ["recurring", "", "BOTH", None, 1, True, ["RECURRING"], {"RECURRING": 1}])
def test_unknown_selection_is_refused_with_the_known_ones(value):
    assert fault(SpeakerSelection=value) == "SpeakerSelection must be one of: CHANNEL, RECURRING"


@pytest.mark.parametrize(
    ("agents", "message"),
    [
        ([], "AgentVoices must be a list of 1 to 10 recordings, one for each agent"),
        ([AGENT] * 11, "AgentVoices must be a list of 1 to 10 recordings, one for each agent"),
        ("s3://agents/17.wav", "AgentVoices must be a list of 1 to 10 recordings, one for each agent"),
        ([AGENT, "x"], "AgentVoices 2: must be an object"),
        ([{"S3Uri": "s3://agents/17.wav"}], "AgentVoices 1: ChannelId is missing"),
        ([{**AGENT, "ChannelId": 2}], "AgentVoices 1: ChannelId must be a whole number from 0 to 1"),
        ([{"ChannelId": 0}], "AgentVoices 1: S3Uri is missing"),
    ],
)
def test_faulty_agents_are_refused_with_their_place(agents, message):
    assert fault(SpeakerSelection="RECURRING", AgentVoices=agents) == message


def test_agents_without_selection_are_refused():
    assert fault(AgentVoices=[AGENT]) == "AgentVoices is used with SpeakerSelection RECURRING only"


def test_fraudsters_are_not_selected():
    assert "is for speakers only" in fault(kind=REGISTRATION, SpeakerSelection="RECURRING")
    assert read(REGISTRATION, BY_DEFAULT).audio  # the setting is that of speakers
    assert read(REGISTRATION, SpeakerSelection="CHANNEL").audio


class Plain:
    """Seals nothing: the stored form is what is looked at."""

    def seal_json(self, kind, owner, value):
        return json.dumps(value).encode()

    def open_json(self, kind, owner, sealed):
        return json.loads(sealed)


@pytest.mark.parametrize("members", [{}, {"SpeakerSelection": "RECURRING", "AgentVoices": [AGENT]}])
def test_stored_request_is_opened_as_it_was_read(members):
    entry = read(**members)
    sealed = seal_request(cast(Vault, Plain()), "job", 0, entry)
    assert open_request(cast(Vault, Plain()), "job", 0, sealed) == entry
    assert ("selection" in json.loads(sealed)) == bool(members), "jobs of before have no such key"


def test_bad_member_fails_its_request_only():
    rules = manifest_rules(Settings(), ENROLLMENT)
    entries = [{**ENTRY, "SpeakerSelection": "X"}, {**ENTRY, "RequestId": "r2"}]
    document = json.dumps({"Version": "1.0", rules.list_name: entries}).encode()
    assert [type(entry) for entry in read_manifest([document], rules)] == [BadRequest, EnrollmentRequest]


def test_most_files_of_a_request_limit_its_agents_too():
    settings = Settings()
    few = replace(settings, quotas=replace(settings.quotas, files_per_request=2))
    assert (
        "1 to 2 recordings"
        in read(settings=few, SpeakerSelection="RECURRING", AgentVoices=[AGENT] * 3).message
    )
