"""Facts that conditions on an action may read, by the service that the action belongs to.

As in AWS, a request that does several things is checked once for each: the tags of a domain are facts about
actions on that domain, and say nothing about a role that the request passes or a key that it uses.
"""

from __future__ import annotations

from sonant.iam.context import Context

VOICE_ID, OWN = "voiceid", "sonant"
"""Service prefixes of the actions of Voice ID, and of those that only Sonant has."""

SERVICE_PRINCIPAL = "voiceid.amazonaws.com"
"""The service that roles are passed to, as policies written for Voice ID name it (AWS docs)."""

DOMAIN_ARN_KEY = "aws:voiceid:domain:arn"
"""The key of the encryption context of every domain's data key (AWS docs, encryption at rest in Voice ID)."""


def facts_about(
    action: str,
    *,
    request: Context,
    operation: Context,
    region: str,
    account_id: str,
    domain_arn: str | None = None,
) -> Context:
    """Return the context for a decision on `action`.

    `request` are the facts of every action (time, address, principal), `operation` those of the operation's
    own resource (its tags, and those that the request sets). `domain_arn` is that of the domain for which a
    key is used, None where it has none yet. The keys are those of the service authorization reference: for
    `iam`, `iam:PassedToService`; for `kms`, `kms:ViaService`, `kms:CallerAccount`,
    `kms:GrantIsForAWSResource` and `kms:EncryptionContext:...`.
    """
    match action.partition(":")[0].lower():
        case name if name in (VOICE_ID, OWN):
            return {**request, **operation}
        case "iam":
            return {**request, "iam:PassedToService": SERVICE_PRINCIPAL}
        case "kms":
            return {**request, **_key_use(action, region, account_id, domain_arn)}
        case _:
            return request


def _key_use(action: str, region: str, account_id: str, domain_arn: str | None) -> Context:
    facts: dict[str, str | bool | list[str]] = {
        "kms:ViaService": f"voiceid.{region}.amazonaws.com",
        "kms:CallerAccount": account_id,
    }
    if action == "kms:CreateGrant":
        facts["kms:GrantIsForAWSResource"] = True
    if domain_arn is not None:
        facts["kms:EncryptionContextKeys"] = [DOMAIN_ARN_KEY]
        facts[f"kms:EncryptionContext:{DOMAIN_ARN_KEY}"] = domain_arn
    return facts
