"""The table of what is stored for how long. What deletes data reads its moments and numbers from here.

To change how long something is stored, change its rule, or the setting that the rule names.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter

from sonant.settings import Settings

#: Units of settings that name a duration, by the end of their name.
_UNITS = {"_s": timedelta(seconds=1), "_h": timedelta(hours=1), "_days": timedelta(days=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How long something is stored. Exactly one of `duration`, `years`, `newest` and `setting` is given."""

    subject: str
    """What is deleted."""
    since: str
    """The moment from which its time runs."""
    reason: str
    duration: timedelta | None = None
    years: int | None = None
    """Calendar years."""
    newest: int | None = None
    """So many of the newest are stored, however old they are."""
    setting: str | None = None
    """The setting that holds the duration, such as `live.keep_h`."""
    zero_is_forever: bool = False
    """Whether a setting of 0 stores for ever."""

    def length(self, settings: Settings) -> timedelta | None:
        """Look up the duration; None for ever. Raises ValueError for a rule of years or numbers."""
        if self.duration is not None:
            return self.duration
        if self.setting is None:
            raise ValueError(f"{self.subject}: the rule has no duration")
        amount: float = attrgetter(self.setting)(settings)
        if self.zero_is_forever and not amount:
            return None
        return amount * next(unit for end, unit in _UNITS.items() if self.setting.endswith(end))

    def cutoff(self, now: datetime, settings: Settings) -> datetime | None:
        """Compute the moment before which things are deleted; None for never."""
        if self.years is not None:
            return years_before(now, self.years)
        length = self.length(settings)
        return None if length is None else now - length


SUSPENDED_DOMAIN = Rule(
    subject="a deleted domain with all that it holds; its KMS grant is given back",
    since="DeleteDomain",
    duration=timedelta(days=30),
    reason="Voice ID's promise: until then RestoreDomain takes it back",
)
UNUSED_SPEAKER = Rule(
    subject="voiceprint, audio, fingerprints and data key of a speaker, who stays listed as EXPIRED",
    since="the last enrollment or successful authentication, to the hour",
    years=3,
    reason="Voice ID's promise, and what laws on biometric data ask for",
)
SESSION = Rule(
    subject="a session with its voice samples, their audio and its results",
    since="the end of its last stream",
    setting="live.keep_h",
    reason="EvaluateSession answers until then",
)
SESSION_SPEAKER = Rule(
    subject="a speaker who was only named on sessions and never enrolled",
    since="the last change, while no session names the speaker",
    duration=timedelta(hours=24),
    reason="such a speaker holds a place in the domain's quota",
)
REPETITIONS = Rule(
    subject="similarities of repeated enrollments, per domain and voice model",
    since="the newest",
    newest=10_000,
    reason="calibration reads so many",
)
SCORE_MISS = Rule(
    subject="a keyed hash of a voice that did not match a speaker, or was like a known fraudster's, with who "
    "asked",
    since="the comparison",
    setting="scores.probes_days",
    reason="the limits of comparisons count so far back",
)
DELIVERED_EVENT = Rule(
    subject="an event that every sink has taken",
    since="the event",
    setting="events.keep_days",
    reason="it can be delivered again after a loss at the receiver",
)
UNDELIVERED_EVENT = Rule(
    subject="an event that a sink has not taken",
    since="the event",
    setting="events.give_up_days",
    zero_is_forever=True,
    reason="a sink that is away for ever must not fill the database",
)
ERASED_SPEAKER = Rule(
    subject="that a speaker was deleted: a hash of the customer's id",
    since="DeleteSpeaker",
    duration=timedelta(days=30),
    reason="a job that was submitted before must not enroll the speaker again",
)
CLIENT_TOKEN = Rule(
    subject="a client token with the hash of its request, the signature of a call that named a speaker, the "
    "mark of a login that was ended, or the hash of a stream's URL, ticket or nonce",
    since="its use",
    duration=timedelta(days=7),
    reason="a clock that is wrong for a while must not make a second resource of one call",
)
TEMPORARY_CREDENTIAL = Rule(
    subject="temporary credentials",
    since="their expiry",
    duration=timedelta(days=1),
    reason="calls are told that they have expired, not that they are unknown",
)


def session_stored_for(settings: Settings) -> timedelta:
    """Look up how long a session is stored after its last stream has ended."""
    length = SESSION.length(settings)
    assert length is not None  # its setting knows no "for ever"
    return length


#: Every rule, as the documentation lists them.
RULES: tuple[Rule, ...] = (
    SUSPENDED_DOMAIN,
    UNUSED_SPEAKER,
    SESSION,
    SESSION_SPEAKER,
    REPETITIONS,
    SCORE_MISS,
    DELIVERED_EVENT,
    UNDELIVERED_EVENT,
    ERASED_SPEAKER,
    CLIENT_TOKEN,
    TEMPORARY_CREDENTIAL,
)


def years_before(moment: datetime, years: int) -> datetime:
    """Go back to the same date `years` earlier; 29 February becomes the 28th where there is none."""
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        return moment.replace(year=moment.year - years, day=28)
