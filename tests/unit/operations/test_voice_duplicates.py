"""ListVoiceDuplicates and `sonant speaker duplicates`: one voice under several ids is found."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from operations_testbed import ACCOUNT, OTHER_ACCOUNT
from voices_testbed import enroll, like, strangers

from sonant.cli.speaker import speaker as command
from sonant.errors import SetupError, Throttling, Validation
from sonant.operations import duplicates


@pytest.fixture
def domain_id(testbed):
    return testbed.new_domain()


def with_twins(testbed, domain_id, spread=0.1):
    """40 strangers; numbers 3 and 17 are enrolled once more, 3 twice."""
    voices = strangers(40, spread=spread)
    twins = [like(voices[3], 0.97, 1), like(voices[17], 0.96, 2), like(voices[3], 0.95, 3)]
    return enroll(testbed, domain_id, [*voices, *twins])


def names(pairs):
    return {frozenset(pair[side]["CustomerSpeakerId"] for side in ("First", "Second")) for pair in pairs}


def test_speakers_with_the_same_voice_are_listed_with_both_ids(testbed, domain_id):
    ids = with_twins(testbed, domain_id)
    answer = testbed.call("ListVoiceDuplicates", DomainId=domain_id)
    found = names(answer["Pairs"])
    assert {frozenset({"caller-3", "caller-40"}), frozenset({"caller-17", "caller-41"})} <= found
    assert found <= {
        frozenset({"caller-3", "caller-40"}),
        frozenset({"caller-3", "caller-42"}),
        frozenset({"caller-40", "caller-42"}),
        frozenset({"caller-17", "caller-41"}),
    }
    assert (answer["SpeakersCompared"], answer["SpeakersLeftOut"]) == (43, 0)
    assert answer["ExpectedByChance"] == pytest.approx(43 * 42 / 2 / 1e7)
    assert answer["NextToken"] is None
    for pair in answer["Pairs"]:
        assert {pair["First"]["GeneratedSpeakerId"], pair["Second"]["GeneratedSpeakerId"]} <= set(ids)
        assert pair["FalseMatchRateLog10"] <= -7
        assert pair["Similarity"] > 0.8


def test_a_rarer_match_is_asked_for_with_a_greater_number(testbed, domain_id):
    with_twins(testbed, domain_id, spread=0.25)
    often = testbed.call("ListVoiceDuplicates", DomainId=domain_id, OneFalseMatchIn=10)["Pairs"]
    rare = testbed.call("ListVoiceDuplicates", DomainId=domain_id, OneFalseMatchIn=10**7)["Pairs"]
    assert names(rare) < names(often)


def every(testbed, **ask):
    """All pairs, page by page."""
    found, token = [], None
    while True:
        answer = testbed.call("ListVoiceDuplicates", **ask, NextToken=token)
        assert len(answer["Pairs"]) <= ask["MaxResults"]
        found += answer["Pairs"]
        token = answer["NextToken"]
        if token is None:
            return found


def test_the_list_is_the_same_whatever_the_pages(testbed, domain_id, monkeypatch):
    with_twins(testbed, domain_id, spread=0.25)
    ask = {"DomainId": domain_id, "OneFalseMatchIn": 10}
    whole = every(testbed, **ask, MaxResults=100)
    assert len(whole) > 13, "no list has several pages"
    assert every(testbed, **ask, MaxResults=7) == whole
    # Nor does it matter how many speakers' pairs are held at a time.
    monkeypatch.setattr(duplicates, "ROWS", 8)
    assert every(testbed, **ask, MaxResults=13) == whole


def test_a_token_is_good_for_the_same_question_only(testbed, domain_id):
    with_twins(testbed, domain_id, spread=0.25)
    token = testbed.call("ListVoiceDuplicates", DomainId=domain_id, OneFalseMatchIn=100, MaxResults=1)[
        "NextToken"
    ]
    with pytest.raises(Validation):
        testbed.call("ListVoiceDuplicates", DomainId=domain_id, OneFalseMatchIn=1000, NextToken=token)


def test_voices_of_another_model_are_left_out_and_counted(testbed, domain_id):
    voices = strangers(10)
    enroll(testbed, domain_id, voices)
    enroll(testbed, domain_id, [like(voices[0], 0.99)], model_id="another", prefix="old")
    answer = testbed.call("ListVoiceDuplicates", DomainId=domain_id)
    assert (answer["Pairs"], answer["SpeakersCompared"], answer["SpeakersLeftOut"]) == ([], 10, 1)


def test_an_empty_domain_has_no_duplicates(testbed, domain_id):
    assert testbed.call("ListVoiceDuplicates", DomainId=domain_id)["Pairs"] == []


# --- the command


def find_duplicates(testbed, domain_id, *options):
    """Run the command: its exit code and output."""
    arguments = ["duplicates", domain_id, "--data", str(testbed.settings.data), *options]
    environment = {"SONANT_DATABASE": testbed.settings.database} if testbed.settings.database else {}
    done = CliRunner(env=environment).invoke(
        command, arguments, catch_exceptions=False, standalone_mode=False
    )
    if isinstance(done.exception, SetupError):
        raise done.exception
    return done.exit_code, done.output


def test_the_command_prints_groups_and_writes_them(testbed, domain_id, tmp_path):
    with_twins(testbed, domain_id)
    file = tmp_path / "found.json"
    code, shown = find_duplicates(testbed, domain_id, "--json", str(file))
    assert code == 1
    assert "43 speakers compared" in shown
    assert "caller-17, caller-41" in shown or "caller-41, caller-17" in shown
    written = json.loads(file.read_text())
    assert [len(group) for group in written["groups"]] == [3, 2]
    assert file.stat().st_mode & 0o077 == 0


def test_the_command_says_so_when_every_voice_is_there_once(testbed, domain_id):
    enroll(testbed, domain_id, strangers(12))
    code, shown = find_duplicates(testbed, domain_id)
    assert code == 0
    assert "no voice is there twice" in shown


def test_the_command_refuses_a_domain_that_is_not_there(testbed):
    with pytest.raises(SetupError, match="no active domain"):
        find_duplicates(testbed, "A" * 22)


def test_a_second_search_at_once_is_throttled(testbed, domain_id):
    with_twins(testbed, domain_id)
    with duplicates.SEARCHES.held(ACCOUNT), pytest.raises(Throttling):
        testbed.call("ListVoiceDuplicates", DomainId=domain_id)
    with duplicates.SEARCHES.held(OTHER_ACCOUNT):
        assert testbed.call("ListVoiceDuplicates", DomainId=domain_id)["Pairs"]


def test_a_speaker_deleted_during_the_search_is_left_out(testbed, domain_id, monkeypatch):
    with_twins(testbed, domain_id)
    find_pairs = duplicates.find_pairs

    def deleting(*asked, **how):
        testbed.call("DeleteSpeaker", DomainId=domain_id, SpeakerId="caller-41")
        yield from find_pairs(*asked, **how)

    monkeypatch.setattr(duplicates, "find_pairs", deleting)
    found = names(testbed.call("ListVoiceDuplicates", DomainId=domain_id)["Pairs"])
    assert frozenset({"caller-3", "caller-40"}) in found
    assert not any("caller-41" in pair for pair in found)
