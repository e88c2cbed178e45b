"""The console's texts for codes, and its languages.

Templates and modules have their texts in English where they are used, marked by `_("...")`. A language is a
dictionary from these texts to its own in `LANGUAGES`; what it lacks stays English.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: What was done, by the key in the address of the page that follows a form.
DONE: Mapping[str, str] = {
    "job-started": "The job was submitted. It starts as soon as a runner is free.",
    "dry-run-started": "The dry run was submitted. It enrolls nobody.",
    "opted-out": "The speaker has opted out. The voiceprint and all voice data were deleted.",
    "deleted": "The speaker was deleted. The receipt below proves it.",
    "deleted-without-receipt": "The speaker was deleted.",
    "consent-recorded": "The consent was recorded.",
    "consent-withdrawn": "The consent was withdrawn and the speaker opted out. All voice data were deleted.",
    "unlocked": "The speaker is open again. Earlier rejections no longer count.",
    "stream-ended": "Listening has ended. The call itself goes on.",
    "list-created": "The watchlist was created.",
    "list-changed": "The watchlist was changed.",
    "list-deleted": "The watchlist was deleted.",
    "fraudster-added": "The fraudster is on the watchlist.",
    "fraudster-removed": "The fraudster is no longer on the watchlist.",
    "fraudster-deleted": "The fraudster was deleted from all watchlists.",
    "signed-out-everywhere": "All sessions of this access key were ended.",
}

#: Plain words for the codes of the API.
WORDS: Mapping[str, str] = {
    # jobs
    "SUBMITTED": "Waiting",
    "IN_PROGRESS": "Running",
    "COMPLETED": "Completed",
    "COMPLETED_WITH_ERRORS": "Completed with errors",
    "FAILED": "Failed",
    "SPEAKER_ENROLLMENT": "Enrollment",
    "FRAUDSTER_REGISTRATION": "Registration of fraudsters",
    "ENROLLMENT_DRY_RUN": "Dry run",
    "NEW_ENROLLMENT": "Enrolled",
    "ENROLLMENT_OVERWRITE": "Enrolled again",
    "DUPLICATE_SKIPPED": "Skipped: enrolled already",
    "NEW_REGISTRATION": "Registered",
    "DUPLICATE_SKIPPED_REGISTRATION": "Skipped: registered already",
    "SKIP": "Skip",
    "OVERWRITE": "Enroll again",
    "REGISTER_AS_NEW": "Register as new",
    "IGNORE": "Enroll anyway",
    "FAIL": "Refuse",
    # speakers
    "ENROLLED": "Enrolled",
    "EXPIRED": "Expired",
    "OPTED_OUT": "Opted out",
    "PENDING": "Not enrolled yet",
    "VALID": "Valid",
    "WITHDRAWN": "Withdrawn",
    # calls
    "PENDING_CONFIGURATION": "Waiting for audio",
    "ONGOING": "Listening",
    "ENDED": "Ended",
    "ACCEPT": "Authenticated",
    "REJECT": "Not authenticated",
    "NOT_ENOUGH_SPEECH": "Not enough speech",
    "SPEAKER_NOT_ENROLLED": "Caller not enrolled",
    "SPEAKER_OPTED_OUT": "Caller opted out",
    "SPEAKER_ID_NOT_PROVIDED": "No caller named",
    "SPEAKER_EXPIRED": "Enrollment expired",
    "HIGH_RISK": "High risk",
    "LOW_RISK": "Low risk",
    "KNOWN_FRAUDSTER": "Known fraudster",
    "VOICE_SPOOFING": "Voice spoofing",
    "MULTIPLE_SPEAKERS": "Several people speak",
    "NEVER_BEGAN": "No audio came",
    "SERVICE_STOPPED": "The service stopped",
    "CALL_ENDED": "The call ended",
    "DISCONNECTED": "The connection broke off",
    "DOMAIN_GONE": "The domain was deleted",
    "IDLE": "No audio for too long",
    "MALFORMED": "The carrier sent something wrong",
    "OVERRUN": "Audio came too fast",
    "REQUESTED": "It was requested",
    "TOO_LONG": "The call was too long",
    "OPT_OUT_SPEAKER": "Opted out",
    "DELETE_SPEAKER": "Deleted",
    "DELETE_FRAUDSTER": "Fraudster deleted",
    # domains
    "ACTIVE": "Active",
    "SUSPENDED": "Suspended",
}

#: The tone in which a code is shown; codes without one are neutral.
TONES: Mapping[str, str] = {
    "COMPLETED": "good",
    "ENROLLED": "good",
    "ACCEPT": "good",
    "LOW_RISK": "good",
    "ACTIVE": "good",
    "VALID": "good",
    "NEW_ENROLLMENT": "good",
    "NEW_REGISTRATION": "good",
    "ENROLLMENT_OVERWRITE": "good",
    "FAILED": "bad",
    "REJECT": "bad",
    "HIGH_RISK": "bad",
    "KNOWN_FRAUDSTER": "bad",
    "VOICE_SPOOFING": "bad",
    "COMPLETED_WITH_ERRORS": "wait",
    "EXPIRED": "wait",
    "SUSPENDED": "wait",
    "NOT_ENOUGH_SPEECH": "wait",
    "SUBMITTED": "wait",
    "IN_PROGRESS": "busy",
    "ONGOING": "busy",
}

#: By language: the texts in it by the English ones.
LANGUAGES: Mapping[str, Mapping[str, str]] = {"en": {}}


def choose_language(accepted: str) -> str:
    """Choose a language by an `Accept-Language` header; English for none that there is.

    >>> choose_language("fr-CH, en;q=0.5")
    'en'
    """
    for one in _by_weight(accepted):
        language = one.partition("-")[0]
        if language in LANGUAGES:
            return language
    return "en"


def translate(language: str, text: str) -> str:
    """Return a text in a language."""
    return LANGUAGES[language].get(text, text)


def _by_weight(accepted: str) -> Sequence[str]:
    weighed = []
    for number, part in enumerate(accepted.lower().split(",")[:20]):
        name, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((-float(weight or 1), number, name.strip()))
        except ValueError:
            continue
    return [name for _, _, name in sorted(weighed)]
