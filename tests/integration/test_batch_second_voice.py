"""Enrollment and registration from recordings in which a second person speaks, by the setting."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
import soundfile
from batch_values import entry, fraud_entry

from sonant.settings import Enrollment, Registration

NEED_S = 12.0


@pytest.fixture(scope="module")
def handed_over(make_call):
    """One channel: the English caller speaks 8 s, the Italian one 8 s, and the English one again."""
    parts = [
        soundfile.read(
            io.BytesIO(make_call(voice, seed, net_speech_s=8, duration_s=20, channels=1)), dtype="float32"
        )[0]
        for voice, seed in (("english", 5), ("italian", 6), ("english", 7))
    ]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts), 8000, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def with_policy(variant):
    def build(policy, need_s=NEED_S):
        return variant(
            enrollment=Enrollment(net_speech_s=need_s, second_voice=policy),
            registration=Registration(net_speech_s=need_s, second_voice=policy),
        )

    return build


def test_a_certain_second_voice_is_refused_with_its_share_and_a_remedy(with_policy, handed_over):
    testbed = with_policy("refuse", need_s=20.0)
    uri = testbed.put("s3://calls/handed-over.wav", handed_over)
    code, message = testbed.enroll_one((uri, 0))
    assert code == 400
    assert message.startswith(f"{uri}: more than one person speaks: about ")
    assert message.endswith("give recordings, or the channel, of the speaker alone")


def test_a_second_voice_in_another_recording_of_the_request_is_refused(with_policy, calls):
    testbed = with_policy("refuse", need_s=16.0)
    files = [("s3://calls/english.wav", 0), ("s3://calls/italian.wav", 0)]
    code, message = testbed.enroll_one(*files)
    assert code == 400
    assert message.startswith("more than one person speaks: ")


def test_with_warn_the_voiceprint_is_of_one_person(with_policy, handed_over, caplog):
    testbed = with_policy("warn")
    domain = testbed.new_domain()
    uri = testbed.put("s3://calls/handed-over-warn.wav", handed_over)
    with caplog.at_level(logging.WARNING, logger="sonant.jobs.second_voices"):
        outcome = testbed.enroll(
            domain,
            [
                entry("mixed", "mixed", uri),
                entry("english", "english", "s3://calls/english-again.wav", "s3://calls/english.wav"),
                entry("italian", "italian", "s3://calls/italian-again.wav", "s3://calls/italian.wav"),
            ],
            fraud={"FraudDetectionAction": "IGNORE"},
        )
    assert set(outcome.successes.values()) == {"NEW_ENROLLMENT"}
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["request 1"]
    found = testbed.voiceprints(domain)
    assert found["mixed"] @ found["english"] > found["mixed"] @ found["italian"] + 0.5


def test_ignore_enrolls_whatever_there_is(with_policy, handed_over):
    testbed = with_policy("ignore", need_s=20.0)
    uri = testbed.put("s3://calls/handed-over-ignored.wav", handed_over)
    assert testbed.enroll_one((uri, 0)) == "NEW_ENROLLMENT"


def test_a_fraudsters_recordings_are_checked_too(with_policy, handed_over):
    testbed = with_policy("refuse", need_s=20.0)
    domain = testbed.new_domain()
    uri = testbed.put("s3://calls/handed-over-fraud.wav", handed_over)
    outcome = testbed.register(domain, [fraud_entry("r1", (uri, 0))])
    code, message = outcome.errors["r1"]
    assert code == 400
    assert "more than one person speaks" in message
