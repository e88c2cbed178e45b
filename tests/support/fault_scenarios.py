"""Which operation can end in which modelled error, and how to bring it about: the error matrix's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sample_requests import NOBODY, SERVED, Furnished, about, arn_of
from service_process import ACCOUNT, ROLE

ERRORS = (
    "AccessDenied",
    "Conflict",
    "InternalServer",
    "ResourceNotFound",
    "ServiceQuotaExceeded",
    "Throttling",
    "Validation",
)

Change = Callable[[Furnished], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A request that must end in `error`: the operation's right one with `change` put over it.

    `world` names the service that it is made to, as the fixtures of the test have them.
    """

    operation: str
    error: str
    world: str = "full"
    detail: str | None = None
    """The ConflictType or ResourceType."""
    change: Change = lambda _furnished: {}
    why: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.operation, self.error, self.detail, self.why)))


#: Operations on a domain that is named by id or by ARN.
NAME_A_DOMAIN = frozenset(
    name
    for name, operation in SERVED.items()
    if {"DomainId", "ResourceArn"} & set(operation.input_shape.members if operation.input_shape else ())
)
#: Operations without input: nothing in them can be wrong.
WITHOUT_INPUT = frozenset(
    name
    for name, operation in SERVED.items()
    if operation.input_shape is None or not operation.input_shape.members
)

_LONG_AGO = "an operation that waits for the domain's row finds nobody else's change in it"
_FILES = "the trail is in files, and what is wrong with them is in the answer"
_ONLY_READS = "it only reads: a suspended domain is as one that is not there"

#: Pairs in the models that cannot occur, and why.
CANNOT_OCCUR: Mapping[tuple[str, str], str] = {
    **{(name, "Validation"): "there is no input" for name in WITHOUT_INPUT},
    ("ListSettings", "InternalServer"): "settings are those that the service started with",
    ("ListPrincipals", "InternalServer"): "callers are looked up in the same table before",
    ("ListAuditRecords", "InternalServer"): _FILES,
    ("DescribeAuditTrail", "InternalServer"): _FILES,
    ("CreateDomain", "Conflict"): "a new domain is in nobody's way; names need not be unique",
    ("RegisterComplianceConsent", "Conflict"): "the first acceptance stands, a second one changes nothing",
    ("DeleteDomain", "Conflict"): f"a suspended domain stays as it is, and {_LONG_AGO}",
    ("RestoreDomain", "Conflict"): f"an active domain stays as it is, and {_LONG_AGO}",
    ("ExportSpeaker", "Conflict"): _ONLY_READS,
    ("CompareRecording", "Conflict"): _ONLY_READS,
}

#: What a sub-resource's absence changes in a request, and the ResourceType it is told by.
_ABSENT: Mapping[str, tuple[str, Any]] = {
    "FRAUDSTER": ("FraudsterId", f"id#{NOBODY}"),
    "WATCHLIST": ("WatchlistId", NOBODY),
    "BATCH_JOB": ("JobId", NOBODY),
    "SESSION": ("SessionNameOrId", "nobody"),
}
_KNOWN_SPEAKERS = ("DescribeSpeaker", "DeleteSpeaker", "ExportSpeaker", "UnlockSpeaker")


def _everywhere() -> Iterator[Scenario]:
    for name in SERVED:
        yield Scenario(operation=name, error="AccessDenied", world="nobody")
        if (name, "InternalServer") not in CANNOT_OCCUR:
            yield Scenario(operation=name, error="InternalServer", world="broken")
        yield Scenario(operation=name, error="Throttling", world="slow")
        if name not in WITHOUT_INPUT:
            yield Scenario(operation=name, error="Validation", world="invalid")


def _absent() -> Iterator[Scenario]:
    for name in sorted(NAME_A_DOMAIN):
        yield Scenario(
            operation=name,
            error="ResourceNotFound",
            detail="DOMAIN",
            change=lambda _f, name=name: about(dict.fromkeys(_domain_member(name)), NOBODY),  # type: ignore[misc]
        )
        members = SERVED[name].input_shape.members
        for kind, (member, nobody) in _ABSENT.items():
            if member in members:
                yield Scenario(
                    operation=name,
                    error="ResourceNotFound",
                    detail=kind,
                    change=lambda _f, m=member, v=nobody: {m: v},  # type: ignore[misc]
                )
    for name in _KNOWN_SPEAKERS:
        yield Scenario(
            operation=name,
            error="ResourceNotFound",
            detail="SPEAKER",
            change=lambda _f: {"SpeakerId": "nobody"},
        )
    for name in ("OptOutSpeaker", "PutConsent", "DescribeConsent", "ListConsents", "WithdrawConsent"):
        yield Scenario(
            operation=name,
            error="ResourceNotFound",
            detail="SPEAKER",
            change=lambda _f: {"SpeakerId": f"id#{NOBODY}"},
        )
    yield Scenario(
        operation="DescribeConsent",
        error="ResourceNotFound",
        detail="CONSENT",
        change=lambda _f: {"SpeakerId": "nobody"},
    )
    yield Scenario(
        operation="CompareRecording",
        error="ResourceNotFound",
        detail="SPEAKER",
        change=lambda _f: {"SpeakerIds": ["nobody"]},
    )
    for name in ("StartSession", "UpdateSession"):
        yield Scenario(
            operation=name,
            error="ResourceNotFound",
            detail="SPEAKER",
            change=lambda _f: {"SpeakerId": f"id#{NOBODY}"},
        )
    for name in ("CreateDomain", "DescribeComplianceConsent"):
        yield Scenario(
            operation=name, error="ResourceNotFound", detail="COMPLIANCE_CONSENT", world="unconsented"
        )
    for name in ("StartSpeakerEnrollmentJob", "StartEnrollmentDryRun"):
        yield Scenario(
            operation=name,
            error="ResourceNotFound",
            detail="WATCHLIST",
            change=lambda _f: {"EnrollmentConfig": {"FraudDetectionConfig": {"WatchlistIds": [NOBODY]}}},
        )
    yield Scenario(
        operation="StartFraudsterRegistrationJob",
        error="ResourceNotFound",
        detail="WATCHLIST",
        change=lambda _f: {"RegistrationConfig": {"WatchlistIds": [NOBODY]}},
    )


def _domain_member(name: str) -> tuple[str, ...]:
    return tuple({"DomainId", "ResourceArn"} & set(SERVED[name].input_shape.members))


def _suspended() -> Iterator[Scenario]:
    """Changes and EvaluateSession are conflicts; reads but three find no domain."""
    still_answer = ("DescribeDomain", "ListTagsForResource", "DeleteDomain", "RestoreDomain")
    for name in sorted(NAME_A_DOMAIN.difference(still_answer)):
        changes = "ConflictException" in SERVED[name].errors and (name, "Conflict") not in CANNOT_OCCUR
        yield Scenario(
            operation=name,
            error="Conflict" if changes else "ResourceNotFound",
            detail="DOMAIN_NOT_ACTIVE" if changes else "DOMAIN",
            change=lambda f, name=name: about(dict.fromkeys(_domain_member(name)), f.suspended_id),  # type: ignore[misc]
            why="suspended",
        )


def _states() -> Iterator[Scenario]:
    def default(f: Furnished) -> Mapping[str, Any]:
        return {"WatchlistId": f.default_list}

    yield Scenario(
        operation="DeleteWatchlist",
        error="Conflict",
        detail="CANNOT_DELETE_NON_EMPTY_WATCHLIST",
        change=lambda f: {"WatchlistId": f.known_list},
    )
    yield Scenario(
        operation="DisassociateFraudster",
        error="Conflict",
        detail="FRAUDSTER_MUST_BELONG_TO_AT_LEAST_ONE_WATCHLIST",
        change=lambda f: {**default(f), "FraudsterId": f.requests["AssociateFraudster"]["FraudsterId"]},
    )
    yield Scenario(
        operation="DisassociateFraudster",
        error="Validation",
        change=lambda f: {"FraudsterId": f.requests["AssociateFraudster"]["FraudsterId"]},
        why="not on the list",
    )
    for name in ("UpdateWatchlist", "DeleteWatchlist"):
        yield Scenario(operation=name, error="Validation", change=default, why="default list")
    for name in ("TagResource", "UntagResource", "ListTagsForResource"):
        for why, arn in (
            ("other account", arn_of(NOBODY, account="111111111111")),
            ("other region", arn_of(NOBODY, region="eu-west-1")),
        ):
            yield Scenario(
                operation=name,
                error="ResourceNotFound",
                detail="DOMAIN",
                change=lambda _f, arn=arn: {"ResourceArn": arn},  # type: ignore[misc]
                why=why,
            )
    yield Scenario(
        operation="CompareRecording",
        error="AccessDenied",
        world="key denied",
        why="the domain's key",
        change=lambda _f: {"DataAccessRoleArn": ROLE},
    )
    for name, operation in SERVED.items():
        if operation.input_shape and "DataAccessRoleArn" in operation.input_shape.members:
            yield Scenario(
                operation=name,
                error="AccessDenied",
                why="role of another account",
                change=lambda _f: {"DataAccessRoleArn": ROLE.replace(ACCOUNT, "111111111111")},
            )
    yield Scenario(
        operation="StartSession",
        error="Conflict",
        detail="ANOTHER_ACTIVE_STREAM",
        change=lambda _f: {"SessionName": "no-speaker"},
    )
    for name in ("StartSession", "UpdateSession"):
        yield Scenario(
            operation=name,
            error="ResourceNotFound",
            detail="WATCHLIST",
            change=lambda _f: {"FraudDetectionConfiguration": {"WatchlistId": NOBODY}},
        )
    yield Scenario(
        operation="StartSession",
        error="Validation",
        change=lambda _f: {
            "IsVoiceAuthenticationEnabled": False,
            "AuthenticationConfiguration": {"AcceptanceThreshold": 90},
        },
        why="contradiction",
    )
    for name, detail in {"no-speaker": "SPEAKER_NOT_SET", "opted-out": "SPEAKER_OPTED_OUT"}.items():
        yield Scenario(
            operation="EnrollBySession",
            error="Conflict",
            detail=detail,
            change=lambda _f, name=name: {"SessionNameOrId": name},  # type: ignore[misc]
        )
    yield Scenario(
        operation="PutConsent",
        error="Conflict",
        detail="SPEAKER_OPTED_OUT",
        change=lambda _f: {"SpeakerId": "stays"},
    )
    yield Scenario(
        operation="PutConsent",
        error="Validation",
        change=lambda _f: {"GivenAt": 1_700_000_000, "ExpiresAt": 1_600_000_000},
        why="ends before it begins",
    )
    for name, other in {
        "DescribeSpeakerEnrollmentJob": "DescribeFraudsterRegistrationJob",
        "DescribeFraudsterRegistrationJob": "DescribeEnrollmentDryRun",
        "DescribeEnrollmentDryRun": "DescribeSpeakerEnrollmentJob",
    }.items():
        yield Scenario(
            operation=name,
            error="ResourceNotFound",
            detail="BATCH_JOB",
            change=lambda f, other=other: {"JobId": f.requests[other]["JobId"]},  # type: ignore[misc]
            why="other kind",
        )


def _quotas() -> Iterator[Scenario]:
    for name in (
        "AssociateFraudster",
        "CreateDomain",
        "CreateWatchlist",
        "ImportOptOuts",
        "OptOutSpeaker",
        "RestoreDomain",
        "StartEnrollmentDryRun",
        "StartFraudsterRegistrationJob",
        "StartSession",
        "StartSpeakerEnrollmentJob",
        "WithdrawConsent",
    ):
        yield Scenario(operation=name, error="ServiceQuotaExceeded", world="narrow")
    yield Scenario(
        operation="UpdateSession",
        error="ServiceQuotaExceeded",
        world="narrow",
        change=lambda _f: {"SpeakerId": "somebody-new"},
    )


SCENARIOS = (*_everywhere(), *_absent(), *_suspended(), *_states(), *_quotas())
