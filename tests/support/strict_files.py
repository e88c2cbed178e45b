"""The files that jobs and dry runs write, as shapes, and a strict parser of them."""

from __future__ import annotations

from typing import Any

from botocore.model import ServiceModel
from strict_json import read_json
from strict_shapes import assert_obeys


def _members(**shapes: str) -> dict[str, Any]:
    return {"type": "structure", "members": {name: {"shape": shape} for name, shape in shapes.items()}}


def _all(**shapes: str) -> dict[str, Any]:
    return {**_members(**shapes), "required": list(shapes)}


def _list(shape: str) -> dict[str, Any]:
    return {"type": "list", "member": {"shape": shape}}


def _one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


_RECORDING = {"S3Uri": "Text", "ChannelId": "Count"}
_ENROLLED = ("DUPLICATE_SKIPPED", "NEW_ENROLLMENT", "ENROLLMENT_OVERWRITE")

SHAPES: dict[str, dict[str, Any]] = {
    "Text": {"type": "string", "min": 1},
    "AnyText": {"type": "string"},
    "Version": _one_of("1.0"),
    "Id": {"type": "string", "pattern": "id#[a-zA-Z0-9]{22}"},
    "Flag": {"type": "boolean"},
    "Count": {"type": "integer", "min": 0},
    "Place": {"type": "integer", "min": 1},
    "Code": {"type": "integer", "min": 400, "max": 599},
    "Score": {"type": "integer", "min": 0, "max": 100},
    "Real": {"type": "double"},
    "Seconds": {"type": "double", "min": 0},
    "Share": {"type": "double", "min": 0, "max": 1},
    "Likeness": {"type": "double", "min": -1.001, "max": 1.001},
    # --- results
    "Enrollments": _all(Version="Version", Errors="Errors", SuccessfulEnrollments="Enrolled"),
    "Registrations": _all(Version="Version", Errors="Errors", SuccessfulRegistrations="Registered"),
    "Errors": _list("Error"),
    "Error": _all(RequestId="AnyText", ErrorCode="Code", ErrorMessage="Text"),
    "Enrolled": _list("Enrollment"),
    "Enrollment": _all(
        RequestId="AnyText", GeneratedSpeakerId="Id", CustomerSpeakerId="Text", EnrollmentStatus="Enrollings"
    ),
    "Enrollings": _one_of(*_ENROLLED),
    "Registered": _list("Registration"),
    "Registration": {
        **_members(
            RequestId="AnyText",
            GeneratedFraudsterId="Id",
            RegistrationStatus="Registerings",
            FraudsterSimilarityScore="Score",
        ),
        "required": ["RequestId", "GeneratedFraudsterId", "RegistrationStatus"],
    },
    "Registerings": _one_of("DUPLICATE_SKIPPED", "NEW_REGISTRATION"),
    # --- the report of a dry run
    "Report": _all(Version="Version", Summary="Summary", Requests="Findings"),
    "Summary": _all(
        Requests="Count",
        LikelyToSucceed="Count",
        LikelyToFail="Count",
        Outcomes="Outcomes",
        VoicesUnderSeveralIds="Count",
        SpeakersWithSeveralVoices="Count",
        PairsCompared="Count",
        PairsByChance="Real",
        SameVoiceThreshold="Likeness",
        DifferentVoicesThreshold="Likeness",
    ),
    "Outcomes": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Count"}},
    "Findings": _list("Finding"),
    "Finding": {
        **_members(
            Number="Place",
            LikelyOutcome="Likely",
            RequestId="AnyText",
            SpeakerId="AnyText",
            ErrorCode="Code",
            ErrorMessage="Text",
            NeededSpeechSeconds="Seconds",
            NetSpeechSeconds="Seconds",
            RepeatedShare="Share",
            ExistingVoiceprint="Existing",
            Recordings="Recordings",
            UnlikeRecordings="Unlikes",
            SameVoiceAs="Same",
            UnlikeRequest="Unlike",
            SpeakerSelection="Selection",
            Warnings="Warnings",
        ),
        "required": ["Number", "LikelyOutcome", "RequestId", "Warnings"],
    },
    "Likely": _one_of(*_ENROLLED, "ERROR"),
    "Recordings": _list("Recording"),
    "Recording": {
        **_members(
            **_RECORDING,
            ErrorCode="Code",
            ErrorMessage="Text",
            Container="Text",
            Encoding="Text",
            SampleRateHz="Count",
            Channels="Count",
            DurationSeconds="Seconds",
            ListenedSeconds="Seconds",
            NetSpeechSeconds="Seconds",
            LevelDbfs="Real",
            Nature="Text",
            OtherChannels="Others",
            SnrDb="Real",
            BandHz="Count",
            ClippingShare="Share",
            Codec="Text",
            SecondVoice="Second",
            Parties="Parties",
        ),
        "required": list(_RECORDING),
    },
    "Parties": _list("Party"),
    "Party": _all(SpeechSeconds="Seconds", Share="Share", Selected="Flag", Agent="Flag"),
    "Selection": _all(Selected="Flag", Reason="Text"),
    "Existing": _all(Score="Score"),
    "Others": _list("Other"),
    "Other": _all(ChannelId="Count", NetSpeechSeconds="Seconds"),
    "Second": {
        **_members(Possible="Flag", Certain="Flag", Share="Share", Overlap="Share", Contrast="Real"),
        "required": ["Possible", "Certain", "Share", "Overlap"],
    },
    "Unlikes": _list("Pair"),
    "Pair": _all(First="Place", Second="Place", Contrast="Real"),
    "Same": _all(
        RequestId="AnyText", SpeakerId="Text", Similarity="Likeness", SameRecording="Flag", Count="Place"
    ),
    "Unlike": _all(RequestId="AnyText", Similarity="Likeness"),
    "Warnings": _list("Text"),
}

_FILES = ServiceModel({"metadata": {"serviceId": "Files"}, "operations": {}, "shapes": SHAPES})


def read_result(raw: bytes) -> dict[str, Any]:
    """Parse a job's result file; fail unless it has its form, to the type of every value."""
    document: dict[str, Any] = read_json(raw)
    kind = "Registrations" if "SuccessfulRegistrations" in document else "Enrollments"
    assert_obeys(_FILES.shape_for(kind), document)
    return document


def read_report(raw: bytes) -> dict[str, Any]:
    """Parse a dry run's report; fail likewise."""
    document: dict[str, Any] = read_json(raw)
    assert_obeys(_FILES.shape_for("Report"), document)
    return document
