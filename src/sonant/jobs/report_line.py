"""Build one request's line of a dry run's report."""

from __future__ import annotations

import base64
from typing import Any

from sonant.jobs.decide import EnrollmentStatus
from sonant.jobs.entry import TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.inspect import FileInspection, InspectionResult
from sonant.jobs.manifest import EnrollmentRequest
from sonant.storage.crypto.template_spaces import TemplateSpaces
from sonant.voice.channel_summary import WORTH_MENTIONING_S
from sonant.voice.disclosure import SCORE_BANDS
from sonant.voice.party_speech import PartySummary
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

#: Members of a stored line that are left out of the report, base64: the voice (`VoiceSample.to_bytes`) in the
#: job's template space, and the fingerprint of a recording that would be enrolled.
PROTECTED_VOICE, FINGERPRINT = "protectedVoice", "fingerprint"
#: The voice in the voice model's space, of a release without template spaces.
FORMER_VOICE = "voice"
ERROR = "ERROR"

#: Speech counts as distorted above this share of samples at full scale, and as noisy under this ratio.
CLIPPED_SHARE = 0.005
NOISY_DB = 10.0
QUIET_DBFS = -45.0
#: Below this score a voice may be another person's than the voiceprint that it is compared with; see
#: docs/calibration.md for how rarely a genuine caller has less. Reports tell bands only: a lower line would
#: give more of the voiceprint away.
OTHER_PERSON_SCORE = SCORE_BANDS[1]
#: Wide-band files whose speech ends below this hold telephone speech.
TELEPHONE_HZ = 4200.0


def report_line(
    request: EnrollmentRequest,
    result: TaskResult | Refusal,
    outcome: Refusal | EnrollmentStatus,
    need_s: float,
    spaces: TemplateSpaces,
) -> dict[str, Any]:
    """Build the line, with the voice if there is one, in the job's template space."""
    line: dict[str, Any] = {"RequestId": request.request_id, "SpeakerId": request.speaker_id}
    line |= outcome_fields(outcome)
    line["NeededSpeechSeconds"] = need_s
    if not isinstance(result, InspectionResult):
        return line | {"Recordings": [{"S3Uri": a.s3_uri, "ChannelId": a.channel} for a in request.audio]}
    speech_s = [file.inspection.net_speech_s or 0.0 for file in result.files]
    line["NetSpeechSeconds"] = round(sum(speech_s), 1)
    if result.sample.quality.repeat_share:
        line["RepeatedShare"] = round(result.sample.quality.repeat_share, 3)
    if result.existing is not None:
        line["ExistingVoiceprint"] = {"Score": result.existing.score}
    line["Recordings"] = [_recording(file) for file in result.files]
    line["UnlikeRecordings"] = [
        {"First": pair.first + 1, "Second": pair.second + 1, "Contrast": round(pair.separation, 3)}
        for pair in result.different_voices
    ]
    if result.parties is not None:
        line |= _parties(result.parties, line["Recordings"])
    if len(result.sample.vector):
        line[PROTECTED_VOICE] = _stored_voice(spaces, result.sample)
    return line


def protect_line(line: dict[str, Any], spaces: TemplateSpaces, model_id: str) -> bool:
    """Protect the voice of a stored line that is not; whether the line was changed."""
    if FORMER_VOICE not in line:
        return False
    vector = base64.b64decode(line.pop(FORMER_VOICE))
    sample = VoiceSample.from_bytes(model_id, vector, Quality(net_speech_s=0.0))
    line[PROTECTED_VOICE] = _stored_voice(spaces, sample)
    return True


def _stored_voice(spaces: TemplateSpaces, sample: VoiceSample) -> str:
    return base64.b64encode(spaces.protect(sample).to_bytes()).decode()


def outcome_fields(outcome: Refusal | EnrollmentStatus) -> dict[str, Any]:
    if isinstance(outcome, Refusal):
        return {"LikelyOutcome": ERROR, "ErrorCode": outcome.code, "ErrorMessage": outcome.message}
    return {"LikelyOutcome": outcome}


def warnings(line: dict[str, Any]) -> list[str]:
    """List what an operator should check in a line, in words."""
    found = []
    for number, recording in enumerate(line.get("Recordings", ()), 1):
        if "ErrorMessage" in recording and recording["ErrorMessage"] in line.get("ErrorMessage", ""):
            continue  # already the reason why the request would fail
        found += [f"recording {number}: {text}" for text in _recording_warnings(recording)]
    if line.get("SpeakerSelection", {}).get("Selected"):
        found.append(f"recordings of both parties: {line['SpeakerSelection']['Reason']}; listen to one")
    if share := line.get("RepeatedShare"):
        found.append(f"{share:.0%} of the speech found repeats other speech of the request and counts once")
    if (existing := line.get("ExistingVoiceprint")) and existing["Score"] < OTHER_PERSON_SCORE:
        found.append(
            "may be another person than the voiceprint that it would replace: the score is under "
            f"{OTHER_PERSON_SCORE}, the same person seldom has less; check SpeakerId"
        )
    for pair in line.get("UnlikeRecordings", ()):
        found.append(
            f"recordings {pair['First']} and {pair['Second']} sound like two people "
            f"(contrast {pair['Contrast']:.2f})"
        )
    if "SameVoiceAs" in line:
        twin = line["SameVoiceAs"]
        more = f", and {twin['Count'] - 1} more" if twin["Count"] > 1 else ""
        what = "is the same recording as" if twin["SameRecording"] else "sounds like the voice of"
        found.append(
            f"{what} speaker {twin['SpeakerId']} (request {twin['RequestId']}, "
            f"similarity {twin['Similarity']:.2f}){more}"
        )
    if "UnlikeRequest" in line:
        other = line["UnlikeRequest"]
        found.append(
            f"sounds like another person than request {other['RequestId']} of the same speaker "
            f"(similarity {other['Similarity']:.2f})"
        )
    return found


def _recording_warnings(recording: dict[str, Any]) -> list[str]:
    if "ErrorMessage" in recording:
        return [f"{recording['ErrorCode']} {recording['ErrorMessage']}"]
    if recording.get("NetSpeechSeconds") == 0.0:
        return [_no_speech(recording)]
    found = []
    if (second := recording.get("SecondVoice", {})).get("Possible"):
        found.append(
            f"{'a second voice' if second.get('Certain') else 'possibly a second voice'} on the channel, "
            f"{second['Share']:.0%} of the speech"
        )
    if (snr := recording.get("SnrDb")) is not None and snr < NOISY_DB:
        found.append(f"noisy: speech is {snr:.0f} dB above the noise, {NOISY_DB:.0f} dB or more is good")
    if (share := recording.get("ClippingShare")) is not None and share > CLIPPED_SHARE:
        found.append(
            f"clipped: {share:.1%} of the speech is at full scale, {CLIPPED_SHARE:.1%} or less is good"
        )
    if (level := recording.get("LevelDbfs")) is not None and level < QUIET_DBFS:
        found.append(f"quiet: the speech has {level:.0f} dBFS, {QUIET_DBFS:.0f} dBFS or more is good")
    if "OtherChannels" in recording:
        found.append(_other_channels(recording))
    band, rate = recording.get("BandHz"), recording.get("SampleRateHz", 0)
    if band is not None and rate > 8000 and band < TELEPHONE_HZ:
        found.append(
            f"telephone speech in a file of {rate / 1000:g} kHz: it reaches {band / 1000:.1f} kHz, wide-band "
            f"speech more than {TELEPHONE_HZ / 1000:.1f} kHz"
        )
    return found


def _no_speech(recording: dict[str, Any]) -> str:
    level = recording.get("LevelDbfs")
    parts = ["no speech" if level is None else f"no speech, the level is {level:.0f} dBFS"]
    if nature := recording.get("Nature"):
        parts.append(nature)
    if "OtherChannels" in recording:
        parts.append(_other_channels(recording))
    return ": ".join(parts[:2]) + "".join(f"; {text}" for text in parts[2:])


def _other_channels(recording: dict[str, Any]) -> str:
    held = " and ".join(
        f"channel {one['ChannelId']} holds {one['NetSpeechSeconds']:.1f} s of speech"
        for one in recording["OtherChannels"]
    )
    return f"{held}: check ChannelId"


def _recording(file: FileInspection) -> dict[str, Any]:
    found = file.inspection
    line: dict[str, Any] = {"S3Uri": file.file.s3_uri, "ChannelId": file.file.channel}
    if file.refusal is not None:
        line |= {"ErrorCode": file.refusal.code, "ErrorMessage": file.refusal.message}
    figures = {
        "Container": found.container,
        "Encoding": found.encoding,
        "SampleRateHz": found.rate_hz,
        "Channels": found.channels,
        "DurationSeconds": _rounded(found.duration_s, 1),
        "ListenedSeconds": _rounded(found.analyzed_s, 1),
        "NetSpeechSeconds": _rounded(found.net_speech_s, 1),
        "LevelDbfs": _rounded(found.level_dbfs, 1),
        "SnrDb": _rounded(found.snr_db, 1) if found.net_speech_s else None,
        "BandHz": _rounded(found.band_hz, -2),
        "ClippingShare": _rounded(found.clipping_share, 5),
        "Codec": found.codec,
    }
    line |= {name: value for name, value in figures.items() if value is not None}
    line |= _channels(file)
    if found.second_voice is not None:
        second = found.second_voice
        line["SecondVoice"] = {
            "Possible": second.possible,
            "Certain": second.certain,
            "Share": round(second.share, 2),
            "Overlap": round(second.overlap, 2),
        }
        if second.separation is not None:
            line["SecondVoice"]["Contrast"] = round(second.separation, 3)
    return line


def _parties(found: PartySummary, recordings: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the parties to recordings of conversations, and return why one was selected.

    The speech of a request is then the selected voice's, and a second voice is expected.
    """
    selection = found.selection
    places = zip(recordings, found.speech_s, found.party_s, selection.chosen, selection.agents, strict=True)
    for recording, heard_s, parties, chosen, agents in places:
        recording.pop("SecondVoice", None)
        recording["Parties"] = [
            {
                "SpeechSeconds": round(party_s, 1),
                "Share": round(party_s / heard_s, 2),
                "Selected": number == chosen,
                "Agent": number in agents,
            }
            for number, party_s in enumerate(parties)
        ]
    speech_s = sum(
        parties[chosen]
        for parties, chosen in zip(found.party_s, selection.chosen, strict=True)
        if chosen is not None
    )
    return {
        "NetSpeechSeconds": round(speech_s, 1),
        "SpeakerSelection": {"Selected": selection.selected, "Reason": selection.reason},
    }


def _channels(file: FileInspection) -> dict[str, Any]:
    """Build the members about a recording whose channel holds little speech."""
    summaries = file.inspection.channel_summaries
    line: dict[str, Any] = {}
    chosen = next((one for one in summaries if one.channel == file.file.channel), None)
    if chosen is not None and chosen.nature:
        line["Nature"] = chosen.nature
    others = [
        {"ChannelId": one.channel, "NetSpeechSeconds": round(one.net_speech_s, 1)}
        for one in summaries
        if one.channel != file.file.channel and one.net_speech_s >= WORTH_MENTIONING_S
    ]
    return line | ({"OtherChannels": others} if others else {})


def _rounded(value: float | None, digits: int) -> float | None:
    if value is None:
        return None
    return round(value, digits) if digits > 0 else int(round(value, digits))
