"""Predictions and reports of dry runs."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from itertools import chain

import browser
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_samples import made_result
from strict_files import read_report

import sonant
from sonant.jobs.decide import Config, OutcomePredictor, decide_by_status, decide_outcome
from sonant.jobs.faults import Refusal
from sonant.jobs.report import in_order, json_report, make_report, report_files
from sonant.jobs.report_line import FORMER_VOICE, PROTECTED_VOICE, warnings
from sonant.jobs.report_page import length, page

# --- predictor -----------------------------------------------------------------------------------------


def prepared():
    return made_result(snr_db=30)


@given(
    requests=st.lists(st.tuples(st.sampled_from("abc"), st.booleans())),
    known=st.dictionaries(st.sampled_from("abc"), st.sampled_from(["ENROLLED", "OPTED_OUT", "EXPIRED"])),
    overwrite=st.booleans(),
    quota=st.integers(0, 4),
)
def test_a_predictor_is_what_a_job_does_that_enrolls_as_it_goes(requests, known, overwrite, quota):
    config = Config(overwrite=overwrite, fraud_action="FAIL", risk_threshold=50)
    predictor, job = OutcomePredictor(config, quota), dict(known)
    for speaker, good in requests:
        heard = prepared() if good else Refusal(400, "no speech")
        predicted = predictor.predict(
            speaker.encode(), known.get(speaker), heard, speakers_present=len(known)
        )
        predictor.record(speaker.encode(), known.get(speaker), predicted)
        done = decide_by_status(job.get(speaker), config) or decide_outcome(
            job.get(speaker), config, heard, speakers_present=len(job), quota=quota
        )
        if not isinstance(done, Refusal) and done != "DUPLICATE_SKIPPED":
            job[speaker] = "ENROLLED"
        assert predicted == done


# --- report -------------------------------------------------------------------------------------------


def line(request_id, speaker_id, voice=None, outcome="NEW_ENROLLMENT", **more):
    found = {"RequestId": request_id, "SpeakerId": speaker_id, "LikelyOutcome": outcome, **more}
    if voice is not None:
        vector = np.zeros(4, "<f4")
        vector[voice] = 1
        found[PROTECTED_VOICE] = base64.b64encode(vector.tobytes()).decode()
    return found


ERROR_LINE = {"RequestId": "bad", "ErrorCode": 400, "ErrorMessage": "SpeakerId is missing"}
STORED = {
    True: [(1, ERROR_LINE), (3, line("d", "dora", None, "ERROR", ErrorCode=404, ErrorMessage="absent"))],
    False: [(0, line("a", "anna", 0)), (2, line("c", "carl", 0)), (4, line("c2", "carl", 1))],
}


def stored(failed):
    return iter(STORED[failed])


def reported():
    pieces, _ = report_files(stored)
    return read_report(b"".join(pieces))


def test_requests_stand_in_the_order_of_the_manifest():
    assert [one["RequestId"] for one in reported()["Requests"]] == ["a", "bad", "c", "d", "c2"]
    assert [one["Number"] for one in reported()["Requests"]] == [1, 2, 3, 4, 5]


def test_the_summary_counts_what_the_lines_say():
    summary = reported()["Summary"]
    assert (summary["Requests"], summary["LikelyToSucceed"], summary["LikelyToFail"]) == (5, 3, 2)
    assert summary["Outcomes"] == {"ERROR_400": 1, "ERROR_404": 1, "NEW_ENROLLMENT": 3}
    assert (summary["VoicesUnderSeveralIds"], summary["SpeakersWithSeveralVoices"]) == (2, 2)
    assert summary["PairsCompared"] == 2


def test_voices_are_reported_by_similarity_and_never_given_out():
    lines = {one["RequestId"]: one for one in reported()["Requests"]}
    assert lines["a"]["SameVoiceAs"] == {
        "RequestId": "c",
        "SpeakerId": "carl",
        "Similarity": 1.0,
        "SameRecording": True,
        "Count": 1,
    }
    assert lines["c"]["UnlikeRequest"] == {"RequestId": "c2", "Similarity": 0.0}
    assert lines["a"]["Warnings"] == ["is the same recording as speaker carl (request c, similarity 1.00)"]
    assert not any(name in one for one in lines.values() for name in (PROTECTED_VOICE, FORMER_VOICE))


def test_a_report_without_recordings_is_a_report():
    made = make_report(lambda: in_order(lambda failed: iter(STORED[True] if failed else [])))
    assert read_report(b"".join(json_report(made)))["Summary"]["LikelyToFail"] == 2


@given(text=st.text(min_size=1))
def test_no_text_of_a_manifest_becomes_markup(text):
    hostile = f'<img src=x onerror="alert(1)">{text}'
    lines = [(0, line(hostile, hostile, Recordings=[{"S3Uri": hostile, "ChannelId": 0}]))]
    made = make_report(lambda: iter(lines))
    shown = b"".join(page(made.summary, made.lines())).decode("utf-8", "surrogatepass")
    assert "<img" not in shown
    assert "onerror=&quot;" in shown


def test_the_page_loads_nothing_and_runs_nothing():
    made = make_report(lambda: iter(chain(STORED[False])))
    shown = b"".join(page(made.summary, made.lines())).decode()
    assert "default-src 'none'" in shown
    assert "<script" not in shown
    assert "http" not in shown.replace("http-equiv", "")


def test_the_page_says_when_and_by_what_it_was_made():
    made = make_report(lambda: iter(chain(STORED[False])))
    shown = b"".join(page(made.summary, made.lines(), datetime(2026, 12, 1, 2, 3, tzinfo=UTC))).decode()
    assert f"Made on 2026-12-01 02:03 UTC by Sonant {sonant.__version__}." in shown


def test_equal_reasons_are_counted_whatever_their_numbers():
    failed = [
        line(f"r{have}", "s", outcome="ERROR", ErrorCode=400, ErrorMessage=f"has {have} s, 30 s needed")
        for have in (3, 7)
    ]
    made = make_report(lambda: iter(enumerate(failed)))
    shown = b"".join(page(made.summary, made.lines())).decode()
    assert "<td>2</td><td>would fail: has … s, … s needed</td>" in shown


@pytest.mark.slow
@pytest.mark.skipif(browser.PROGRAM is None, reason="this machine has no browser to look at a page with")
def test_the_page_shows_the_chosen_requests_and_axe_finds_nothing(tmp_path):
    made = make_report(lambda: iter(chain(STORED[False], STORED[True])))
    file = tmp_path / "report.html"
    file.write_bytes(b"".join(page(made.summary, made.lines())))
    (tmp_path / "profile").mkdir()
    with browser.Browser(tmp_path / "profile") as seen:
        seen.go(file.as_uri())
        count = "[...document.querySelectorAll('tbody.group')].filter((one) => one.offsetHeight).length"
        assert seen.run(count) == made.summary["Requests"]
        seen.run("document.getElementById('show-fail').click()")
        assert seen.run(count) == made.summary["LikelyToFail"]
        seen.run("document.getElementById('show-pass').click()")
        assert seen.run(count) == made.summary["LikelyToSucceed"]
        assert "\n".join(seen.violations()) == ""


@pytest.mark.parametrize(
    ("recording", "told"),
    [
        ({"SnrDb": 5.2}, ["recording 1: noisy: speech is 5 dB above the noise, 10 dB or more is good"]),
        ({"SnrDb": 25.0}, []),
        (
            {"ClippingShare": 0.11},
            ["recording 1: clipped: 11.0% of the speech is at full scale, 0.5% or less is good"],
        ),
        ({"LevelDbfs": -51.2}, ["recording 1: quiet: the speech has -51 dBFS, -45 dBFS or more is good"]),
        ({"LevelDbfs": -20.0}, []),
        (
            {"NetSpeechSeconds": 0.0, "LevelDbfs": -90.0, "Nature": "silence"},
            ["recording 1: no speech, the level is -90 dBFS: silence"],
        ),
        (
            {
                "NetSpeechSeconds": 0.0,
                "LevelDbfs": -17.0,
                "Nature": "a tone of 425 Hz",
                "OtherChannels": [{"ChannelId": 1, "NetSpeechSeconds": 55.0}],
            },
            [
                "recording 1: no speech, the level is -17 dBFS: a tone of 425 Hz; channel 1 holds 55.0 s of "
                "speech: check ChannelId"
            ],
        ),
        (
            {"NetSpeechSeconds": 1.2, "OtherChannels": [{"ChannelId": 1, "NetSpeechSeconds": 55.0}]},
            ["recording 1: channel 1 holds 55.0 s of speech: check ChannelId"],
        ),
        (
            {"BandHz": 3900, "SampleRateHz": 16000},
            [
                "recording 1: telephone speech in a file of 16 kHz: it reaches 3.9 kHz, wide-band "
                "speech more than 4.2 kHz"
            ],
        ),
        ({"BandHz": 3900, "SampleRateHz": 8000}, []),
        (
            {"SecondVoice": {"Possible": True, "Certain": False, "Share": 0.12}},
            ["recording 1: possibly a second voice on the channel, 12% of the speech"],
        ),
        (
            {"SecondVoice": {"Possible": True, "Certain": True, "Share": 0.4}},
            ["recording 1: a second voice on the channel, 40% of the speech"],
        ),
        ({"ErrorCode": 404, "ErrorMessage": "absent"}, ["recording 1: 404 absent"]),
    ],
)
def test_what_needs_a_look_is_said(recording, told):
    assert warnings({"Recordings": [recording]}) == told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"RepeatedShare": 0.62},
            ["62% of the speech found repeats other speech of the request and counts once"],
        ),
        (
            {"ExistingVoiceprint": {"Score": 0}},
            [
                "may be another person than the voiceprint that it would replace: the score is under 80, "
                "the same person seldom has less; check SpeakerId"
            ],
        ),
        ({"ExistingVoiceprint": {"Score": 80}}, []),
    ],
)
def test_what_needs_a_look_in_a_request_is_said(change, told):
    assert warnings(change) == told


def test_an_error_of_the_request_is_not_said_twice():
    whole = {"ErrorMessage": "s3://b/k: absent", "Recordings": [{"ErrorCode": 4, "ErrorMessage": "absent"}]}
    assert warnings(whole) == []


def test_lengths_are_minutes_and_seconds():
    assert (length(59.6), length(0), length(605)) == ("1:00", "0:00", "10:05")
