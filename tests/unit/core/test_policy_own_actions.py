"""Actions that Voice ID never had have a prefix of their own; its former spelling still works, narrowly."""

from __future__ import annotations

import json

import pytest

from sonant.errors import SetupError
from sonant.iam import allows, check_new, former_names, parse

OWN_OPERATIONS = frozenset(("ExportSpeaker", "ListVoiceDuplicates", "StreamAudio"))


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(*actions, element="Action"):
    return {"Effect": "Allow", element: list(actions), "Resource": "*"}


def deny(*actions, element="Action"):
    return {"Effect": "Deny", element: list(actions), "Resource": "*"}


def allowed(action, *statements):
    return allows([parse(document(*statements))], action, "*")


@pytest.mark.parametrize("pattern", ["voiceid:*", "voiceid:Export*", "voiceid:ExportSpeake?"])
def test_wildcard_for_voice_id_does_not_allow_own_actions(pattern):
    assert not allowed("sonant:ExportSpeaker", allow(pattern))


@pytest.mark.parametrize("pattern", ["sonant:*", "sonant:ExportSpeaker", "*", "SONANT:exportspeaker"])
def test_own_prefix_allows_own_actions(pattern):
    assert allowed("sonant:ExportSpeaker", allow(pattern))


def test_former_name_written_out_still_allows():
    assert allowed("sonant:ExportSpeaker", allow("voiceid:ExportSpeaker"))
    assert not allowed("sonant:ListVoiceDuplicates", allow("voiceid:ExportSpeaker"))


@pytest.mark.parametrize("pattern", ["voiceid:*", "voiceid:Export*", "voiceid:ExportSpeaker"])
def test_former_name_still_denies_by_wildcard_too(pattern):
    assert not allowed("sonant:ExportSpeaker", allow("*"), deny(pattern))


def test_allow_of_all_but_a_former_name_leaves_it_out():
    for pattern in ("voiceid:ExportSpeaker", "voiceid:Export*", "voiceid:*"):
        assert not allowed("sonant:ExportSpeaker", allow(pattern, element="NotAction"))
    assert allowed("sonant:ListVoiceDuplicates", allow("voiceid:ExportSpeaker", element="NotAction"))


def test_deny_of_all_but_a_former_name_spares_it_only_written_out():
    assert allowed("sonant:ExportSpeaker", allow("*"), deny("voiceid:ExportSpeaker", element="NotAction"))
    assert not allowed("sonant:ExportSpeaker", allow("*"), deny("voiceid:*", element="NotAction"))


def test_voice_ids_own_actions_have_no_second_name():
    assert not allowed("voiceid:DescribeSpeaker", allow("sonant:DescribeSpeaker"))


# --- policies of earlier releases


def test_former_name_is_reported_with_the_name_to_write():
    (advice,) = former_names(document(allow("voiceid:ExportSpeaker", "kms:Decrypt")), OWN_OPERATIONS)
    assert advice.startswith("statement 1 names voiceid:ExportSpeaker; write sonant:ExportSpeaker")


@pytest.mark.parametrize(
    "statement",
    [
        allow("*"),
        allow("voiceid:Describe*"),
        allow("voiceid:ListSpeakers"),
        allow("voiceid:*"),
        deny("voiceid:*"),
        allow("sonant:ExportSpeaker"),
    ],
)
def test_policy_without_former_names_is_not_reported(statement):
    assert former_names(document(statement), OWN_OPERATIONS) == []


# --- new policies


@pytest.mark.parametrize("name", ["voice*:*", "*:ListDomains", "voicei?:ListDomains", "*:*"])
def test_new_policy_must_write_out_the_service_of_an_action(name):
    with pytest.raises(SetupError, match=r"policy statement 1: the service of action .* without wildcards"):
        check_new(document(allow(name)))
    parse(document(allow(name)))  # one that is stored is still understood


@pytest.mark.parametrize("name", ["*", "voiceid:*", "sonant:List*"])
def test_new_policy_may_name_actions_by_wildcards(name):
    check_new(document(allow(name)))
