"""Define every exception that Sonant raises on purpose, in one tree.

    SonantError
    ├── SetupError                 the operator must change settings, data folder, models or keys
    ├── WireError                  becomes an error response (see `gateway.protocol`)
    │   ├── GatewayError           the request never reached an operation (not in the service model)
    │   └── ModelledError          the seven exceptions of the service model
    │       ├── AccessDenied  Conflict  InternalServer  ResourceNotFound
    │       ├── ServiceQuotaExceeded  Throttling  Validation
    │       └── SpeakerLocked  ProbeBudgetUsed   an AccessDenied, a Throttling
    ├── StoreError
    │   ├── ObjectError            BucketNotFound  ObjectNotFound  ObjectDenied  ObjectTooLarge
    │   │                          ObjectNameConflict  InvalidObjectName  StorageFull
    │   └── KeyError_              KeyNotFound  KeyUnusable  KeyDenied  SealBroken
    ├── DomainNotActive            work was to be done for a domain that is suspended or deleted
    ├── DatabaseUnavailable        the database does not answer or is busy: a later try may succeed
    ├── ObjectsUnavailable         no file handles or memory left to read objects: a later try may succeed
    ├── IntegrityFault             a row of the database was changed by something else than Sonant
    ├── CheckUnfinished            a check of the whole database exceeded its time limit
    ├── KeysUnreachable            the key service does not answer: nothing is known about the key
    ├── ClusterUnavailable         the Ray cluster does not answer or is full: a later try may succeed
    ├── AudioError                 a recording that cannot be used, and why
    │   └── AmbiguousParties  NotEnoughSpeech  PoorQuality  SecondSpeaker  WrongSampleRate
    ├── ModelMismatch              a comparison of two voice models' embeddings
    ├── TemplateMismatch           a comparison of embeddings in two template spaces
    └── NotEnoughTrials            too few comparisons for a figure

Modules raise the leaf that names the fault. Only three places translate: `gateway` turns a `WireError` into a
response, `jobs` turns object and audio errors into the codes of result files, `cli` turns everything into one
sentence and an exit code. No message holds a sensitive value (names, customer speaker ids, tags, free text)
or a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar


class SonantError(Exception):
    """Root of the tree: catches everything that Sonant raises on purpose."""


class SetupError(SonantError):
    """The operator must change something; the message says what and how."""


# --- the wire -----------------------------------------------------------------------------------------


class WireError(SonantError):
    """A response other than 200. `code` becomes `__type`; `members` stand beside the message."""

    code: ClassVar[str]
    http_status: ClassVar[int] = 400

    def __init__(self, message: str | None = None, **members: str) -> None:
        super().__init__(message or "")
        self.message = message
        self.members: Mapping[str, str] = members


class GatewayError(WireError):
    """A fault found before the operation and the caller are known. Not in the model; AWS's own names."""


class UnknownRoute(GatewayError):
    """Not a POST of JSON to `/`; without a message the response is plain text, as AWS's front end does."""

    code = "UnknownOperationException"
    http_status = 404


class Misdirected(GatewayError):
    """A request meant for another AWS service; `body` says so in the form that its clients read.

    The status is 400, since S3 clients take 404 for a missing object.
    """

    code = "UnknownOperationException"

    def __init__(self, message: str, content_type: str, body: bytes) -> None:
        super().__init__(message)
        self.content_type, self.body = content_type, body


class BodyTooLarge(GatewayError):
    code = "RequestEntityTooLargeException"
    http_status = 413


class SerializationFault(GatewayError):
    code = "SerializationException"

    def __init__(self, message: str) -> None:
        super().__init__(message)


class UnknownOperation(GatewayError):
    code = "UnknownOperationException"


class MissingAuthenticationToken(GatewayError):
    code = "MissingAuthenticationTokenException"


class IncompleteSignature(GatewayError):
    code = "IncompleteSignatureException"


class InvalidSignature(GatewayError):
    code = "InvalidSignatureException"


class UnrecognizedClient(GatewayError):
    code = "UnrecognizedClientException"


class ExpiredToken(GatewayError):
    code = "ExpiredTokenException"


class ModelledError(WireError):
    """One of the seven exceptions of the service model, with the status codes of its Smithy model."""


class AccessDenied(ModelledError):
    code = "AccessDeniedException"
    http_status = 403


class Conflict(ModelledError):
    code = "ConflictException"
    http_status = 409

    #: Messages by conflict type: those that the service model publishes, the rest Sonant's own.
    TEXTS: ClassVar[Mapping[str, str]] = {
        "ANOTHER_ACTIVE_STREAM": "The session already has an active stream.",
        "DOMAIN_NOT_ACTIVE": "The domain is not active.",
        "CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT": (
            "You cannot change the speaker ID after an enrollment has been requested."
        ),
        "ENROLLMENT_ALREADY_EXISTS": "There is already an enrollment for this session.",
        "SPEAKER_NOT_SET": "You must set the speaker ID before requesting an enrollment.",
        "SPEAKER_OPTED_OUT": "You cannot request an enrollment for an opted out speaker.",
        "CONSENT_MISSING": (
            "The domain requires a consent, and the speaker has given none that is valid. Record one with "
            "PutConsent."
        ),
        "CONCURRENT_CHANGES": (
            "The request could not be processed as the resource was modified by another request during "
            "execution."
        ),
        "DOMAIN_LOCKED_FROM_ENCRYPTION_UPDATES": (
            "The domain's key cannot be changed while an earlier change is in progress."
        ),
        "CANNOT_DELETE_NON_EMPTY_WATCHLIST": "The watchlist still holds fraudsters.",
        "FRAUDSTER_MUST_BELONG_TO_AT_LEAST_ONE_WATCHLIST": (
            "The fraudster is on no other watchlist and must stay on at least one."
        ),
    }

    def __init__(self, conflict_type: str) -> None:
        super().__init__(self.TEXTS[conflict_type], ConflictType=conflict_type)


class InternalServer(ModelledError):
    code = "InternalServerException"
    http_status = 500


class ResourceNotFound(ModelledError):
    code = "ResourceNotFoundException"
    http_status = 404

    def __init__(self, resource_type: str, message: str | None = None) -> None:
        """The default message is Voice ID's own."""
        what = resource_type.lower().replace("_", " ")
        super().__init__(message or f"The requested {what} does not exist", ResourceType=resource_type)


class ServiceQuotaExceeded(ModelledError):
    """A quota of `settings.Quotas` is used up; result files have the same sentences (`quota_sentence`)."""

    code = "ServiceQuotaExceededException"
    http_status = 402

    @classmethod
    def of(cls, quota: str, limit: int) -> ServiceQuotaExceeded:
        """Build the error for a quota, named as its setting."""
        sentence = quota_sentence(quota, limit)
        return cls(f"{sentence[0].upper()}{sentence[1:]}.")


_QUOTA_SENTENCES = {
    "domains_per_account": "the account already has {limit} domains, its quota",
    "speakers_per_domain": "the domain already has {limit} speakers, its quota",
    "watchlists_per_domain": "the domain already has {limit} watchlists, its quota",
    "fraudsters_per_watchlist": "the watchlist already has {limit} fraudsters, its quota",
    "active_sessions_per_domain": "the domain already has {limit} active sessions, its quota",
}


def quota_sentence(quota: str, limit: int) -> str:
    """Say that a quota, named as its setting, is used up: for result files, with no capital or full stop."""
    return _QUOTA_SENTENCES[quota].format(limit=limit)


def require_room(quota: str, present: int, limit: int) -> None:
    """Raise ServiceQuotaExceeded when as many are present as the quota allows."""
    if present >= limit:
        raise ServiceQuotaExceeded.of(quota, limit)


class Throttling(ModelledError):
    code = "ThrottlingException"
    http_status = 429


class SpeakerLocked(AccessDenied):
    """Too many callers were rejected as one speaker; SDKs do not repeat the request."""

    def __init__(self, rejections: int, hours: float, until: datetime) -> None:
        super().__init__(
            f"The speaker is locked: {rejections} callers were rejected within {hours:g} hours. The lock "
            f"ends at {until:%Y-%m-%dT%H:%M:%SZ}, or with UnlockSpeaker; verify callers otherwise until then"
        )


class ProbeBudgetUsed(Throttling):
    """One principal, or all of an account, have compared too many voices with one speaker."""

    def __init__(self, probes: int, days: float, until: datetime, *, account: bool = False) -> None:
        who, limit = ("You have", "probes_per_speaker")
        if account:
            who, limit = ("Users and roles of this account have together", "probes_per_account")
        super().__init__(
            f"{who} compared {probes} different voices with this speaker in vain within {days:g} days, as "
            f"many as scores.{limit} allows. The next is possible at "
            f"{until:%Y-%m-%dT%H:%M:%SZ}, or after UnlockSpeaker"
        )


class Validation(ModelledError):
    code = "ValidationException"


# --- the store ----------------------------------------------------------------------------------------


class StoreError(SonantError):
    """An object or a key could not be read or written."""


class ObjectError(StoreError):
    """A fault of the object store; the message names the `s3://` URI."""


class BucketNotFound(ObjectError):
    pass


class ObjectNotFound(ObjectError):
    pass


class ObjectDenied(ObjectError):
    """The role lacks a right, or the path is a symbolic link, which is never followed."""


class ObjectTooLarge(ObjectError):
    """The object is larger than the caller's limit; raised before it is read."""


class ObjectNameConflict(ObjectError):
    """A local bucket cannot hold both `a` and `a/b`, because it is a folder."""


class InvalidObjectName(ObjectError):
    """The name is not an `s3://bucket/key` that S3 would accept."""


class StorageFull(ObjectError):
    """The disk or the quota behind the store is full; nothing was written."""


class KeyError_(StoreError):  # noqa: N801 - not the builtin
    """A fault of the key store; the message names the key, never its material."""


class KeyNotFound(KeyError_):
    pass


class KeyUnusable(KeyError_):
    """The key is disabled or pending deletion."""


class KeyDenied(KeyError_):
    """The caller or role has no right to use the key."""


class SealBroken(KeyError_):
    """Encrypted bytes cannot be decrypted: altered, bound to another context, or their key was destroyed."""


class DomainNotActive(SonantError):
    """A domain that work was to be done for is suspended, or gone."""


class DatabaseUnavailable(SonantError):
    """The database does not answer, or other transactions were in the way: a later try may succeed.

    Not a StoreError, because those are recorded as final results.
    """


class IntegrityFault(SonantError):
    """A row of the database is not as Sonant wrote it: changed, inserted, exchanged or put back from outside.

    Not a StoreError, because those are recorded as final results. Callers of the API get an internal failure.
    """

    def __init__(self, table: str, key: str, finding: str) -> None:
        """`key` is the row's primary key; `finding` completes the sentence "the row ..."."""
        super().__init__(
            f"integrity fault: row {key} of table {table} {finding}; something else than Sonant has changed "
            "the database: find out who can write to it, and restore a backup (docs/row-integrity.md)"
        )
        self.table = table
        self.key = key
        self.finding = finding


class CheckUnfinished(SonantError):
    """The check of the whole database file exceeded its time limit."""


class KeysUnreachable(SonantError):
    """The key service does not answer: nothing is known about the key, and a later try may succeed."""


class ObjectsUnavailable(SonantError):
    """No file handles or memory left to read or write objects: a later try may succeed.

    Not a StoreError, because those are recorded as final results.
    """


class ClusterUnavailable(SonantError):
    """The Ray cluster does not answer or is full: a later try may succeed."""


# --- the voice ----------------------------------------------------------------------------------------


class AudioError(SonantError):
    """A recording that cannot be used. The message states the measured value and the limit."""


class NotEnoughSpeech(AudioError):
    """A recording has less net speech than is needed."""

    def __init__(self, have_s: float, need_s: float, recordings: Sequence[str] = ()) -> None:
        """`recordings` describe what each recording holds."""
        parts = "".join(f"; {text}" for text in recordings)
        super().__init__(
            f"not enough speech: {have_s:.1f} s of net speech, at least {need_s:.1f} s needed{parts}"
        )
        self.have_s = have_s
        self.need_s = need_s


class AmbiguousParties(AudioError):
    """Recordings of conversations do not show which of the voices is the customer's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the customer's voice cannot be told from the other party's: {reason}")


class PoorQuality(AudioError):
    """Audio holds enough speech, but it is too damaged to be scored."""

    def __init__(self, reasons: Sequence[str]) -> None:
        """Each reason states a measured value, its limit and what to do."""
        super().__init__("the audio cannot be scored: " + "; ".join(reasons))
        self.reasons = tuple(reasons)


class SecondSpeaker(AudioError):
    """A second person speaks in recordings that should hold one person's voice."""

    def __init__(self, share: float, overlap: float, net_speech_s: float) -> None:
        at_once = f", {overlap:.0%} of it at the same time" if overlap >= 0.05 else ""
        super().__init__(
            f"more than one person speaks: about {share:.0%} of {net_speech_s:.1f} s of speech is not the "
            f"first person's{at_once}; give recordings, or the channel, of the speaker alone"
        )
        self.share = share
        self.overlap = overlap


class WrongSampleRate(AudioError):
    """A recording has a sample rate that is not accepted."""


class ModelMismatch(SonantError):
    """Embeddings of two voice models cannot be compared: their similarity would mean nothing."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"embeddings of different voice models cannot be compared: {one} and {other}")


class TemplateMismatch(SonantError):
    """Embeddings in two template spaces cannot be compared: their similarity would mean nothing."""

    def __init__(self, one: str, other: str) -> None:
        spaces = " and ".join(space or "the voice model's own" for space in (one, other))
        super().__init__(f"embeddings in different template spaces cannot be compared: {spaces}")


class NotEnoughTrials(SonantError):
    """Too few comparisons for a figure; none is reported rather than one that means nothing."""

    def __init__(self, have: int, need: int) -> None:
        super().__init__(f"not supported by {have:,} comparisons: at least {need:,} needed")
        self.have = have
        self.need = need
