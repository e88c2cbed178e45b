"""Every exception that Sonant raises on purpose, in one tree.

    SonantError
    ├── SetupError                 the operator must change something: settings, data folder, models, keys
    ├── WireError                  becomes an HTTP response (see `gateway.protocol`)
    │   ├── GatewayError           the request never reached an operation (not in the service model)
    │   └── ModelledError          the seven exceptions of the service model
    │       ├── AccessDenied  Conflict  InternalServer  ResourceNotFound
    │       └── ServiceQuotaExceeded  Throttling  Validation
    ├── StoreError
    │   ├── ObjectError            BucketNotFound  ObjectNotFound  ObjectDenied  ObjectTooLarge
    │   │                          ObjectNameConflict  InvalidObjectName  StorageFull
    │   └── KeyError_              KeyNotFound  KeyUnusable  KeyDenied  SealBroken
    ├── DatabaseUnavailable        the database does not answer, or could not do it now: try again later
    ├── ObjectsUnavailable         no files or memory left to read objects with: try again later
    ├── CheckUnfinished            a look at the whole database took longer than it may
    ├── KeysUnreachable            the key service does not answer: not the fault of what was asked for
    ├── ClusterUnavailable         the Ray cluster does not answer, or has no room: try again later
    ├── AudioError                 a recording that cannot be used, and why
    │   └── NotEnoughSpeech  WrongSampleRate
    ├── ModelMismatch              two voice models' embeddings were to be compared
    └── NotEnoughTrials            too few comparisons for the figure that was asked for

Modules raise the leaf that names the fault. Only three places translate: `gateway.server` turns a `WireError`
into bytes, `jobs.entry` turns object and audio errors into result-file codes, `cli` turns everything into
one sentence and an exit code. No message ever holds a sensitive value (names, customer speaker ids, tags,
free text) or a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class SonantError(Exception):
    """Root of the tree: catch it to catch all that Sonant raises on purpose."""


class SetupError(SonantError):
    """The operator must change something; the message says what and how."""


# --- the wire -----------------------------------------------------------------------------------------


class WireError(SonantError):
    """An answer other than 200. `code` goes into `__type`, `members` beside the message."""

    code: ClassVar[str]
    http_status: ClassVar[int] = 400

    def __init__(self, message: str | None = None, **members: str) -> None:
        super().__init__(message or "")
        self.message = message
        self.members: Mapping[str, str] = members


class GatewayError(WireError):
    """Faults found before an operation is known or the caller is. Not in the model; AWS's own names."""


class UnknownRoute(GatewayError):
    """Not a POST of JSON to `/`: without a message answered with a bare text, as AWS's front end does."""

    code = "UnknownOperationException"
    http_status = 404


class Misdirected(GatewayError):
    """Meant for another AWS service; `body` says so in the form that its clients read.

    400, since 404 would mean to a client of S3 that the object is not there.
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
    """The seven exceptions of the service model. Status codes are those of the service's Smithy model."""


class AccessDenied(ModelledError):
    code = "AccessDeniedException"
    http_status = 403


class Conflict(ModelledError):
    code = "ConflictException"
    http_status = 409

    #: Texts that the service model publishes, by conflict type; the rest are our own.
    TEXTS: ClassVar[Mapping[str, str]] = {
        "ANOTHER_ACTIVE_STREAM": "The session already has an active stream.",
        "DOMAIN_NOT_ACTIVE": "The domain is not active.",
        "CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT": (
            "You cannot change the speaker ID after an enrollment has been requested."
        ),
        "ENROLLMENT_ALREADY_EXISTS": "There is already an enrollment for this session.",
        "SPEAKER_NOT_SET": "You must set the speaker ID before requesting an enrollment.",
        "SPEAKER_OPTED_OUT": "You cannot request an enrollment for an opted out speaker.",
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
        """Without a message, in Voice ID's own words."""
        what = resource_type.lower().replace("_", " ")
        super().__init__(message or f"The requested {what} does not exist", ResourceType=resource_type)


class ServiceQuotaExceeded(ModelledError):
    code = "ServiceQuotaExceededException"
    http_status = 402


class Throttling(ModelledError):
    code = "ThrottlingException"
    http_status = 429


class Validation(ModelledError):
    code = "ValidationException"


# --- the store ----------------------------------------------------------------------------------------


class StoreError(SonantError):
    """Something below the operations could not be read or written."""


class ObjectError(StoreError):
    """A fault of the object store; the message names the `s3://` URI."""


class BucketNotFound(ObjectError):
    pass


class ObjectNotFound(ObjectError):
    pass


class ObjectDenied(ObjectError):
    """The role lacks a right, or the path is one that is never followed (a symbolic link)."""


class ObjectTooLarge(ObjectError):
    """Larger than the caller's limit; raised before the object is read."""


class ObjectNameConflict(ObjectError):
    """A local bucket is a folder: it cannot hold both `a` and `a/b`."""


class InvalidObjectName(ObjectError):
    """Not an `s3://bucket/key` that S3 would accept."""


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
    """Sealed bytes do not open: altered, or bound to another place, or their key was destroyed."""


class DatabaseUnavailable(SonantError):
    """The database does not answer, or others' work was in the way: the same may work later.

    Not a StoreError: what those are turned into is final.
    """


class CheckUnfinished(SonantError):
    """The database's file was not looked at whole in the time that it may take."""


class KeysUnreachable(SonantError):
    """The key service does not answer: nothing is known about the key, and a later try may do."""


class ObjectsUnavailable(SonantError):
    """The machine lacks what reading or writing objects takes, files or memory: the same may work later.

    Not a StoreError: what those are turned into is final.
    """


class ClusterUnavailable(SonantError):
    """The Ray cluster does not answer, or has no room for us: the same may work later."""


# --- the voice ----------------------------------------------------------------------------------------


class AudioError(SonantError):
    """A recording that cannot be used. The message states the measured value and the limit."""


class NotEnoughSpeech(AudioError):
    """Less net speech than is needed."""

    def __init__(self, have_s: float, need_s: float) -> None:
        super().__init__(f"not enough speech: {have_s:.1f} s of net speech, at least {need_s:.1f} s needed")
        self.have_s = have_s
        self.need_s = need_s


class WrongSampleRate(AudioError):
    """Not a rate that can be listened to."""


class ModelMismatch(SonantError):
    """Embeddings of two voice models were to be compared: their similarity would mean nothing."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"embeddings of different voice models cannot be compared: {one} and {other}")


class NotEnoughTrials(SonantError):
    """Too few comparisons bear the figure; none is given rather than one that means nothing."""

    def __init__(self, have: int, need: int) -> None:
        super().__init__(f"not supported by {have:,} comparisons: at least {need:,} needed")
        self.have = have
        self.need = need
