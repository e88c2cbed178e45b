"""Find policies that rest on names of actions of an earlier release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from sqlalchemy import Connection

from sonant.errors import IntegrityFault
from sonant.iam import OWN, VOICE_ID, former_names
from sonant.storage.repositories import access


def former_policies(connection: Connection) -> Iterator[str]:
    """Say for each statement of a user or role that rests on former names what to write instead."""
    for arn in access.list_principals(connection):
        try:
            texts = access.policy_texts(connection, arn) or ()
        except IntegrityFault as fault:  # one user must not keep a service from starting
            yield str(fault)
            continue
        for advice in advice_on(texts):
            yield f"{arn}: {advice}"


def advice_on(texts: Iterable[str]) -> Iterator[str]:
    """Say the same of the policies of one user or role. Raises SetupError for one that does not parse."""
    for number, text in enumerate(texts, 1):
        if f"{VOICE_ID}:" not in text.lower():
            continue  # nothing to find, and the service models need not be read
        for advice in former_names(text, _own_actions()):
            yield f"policy {number}, {advice}"


@lru_cache(maxsize=1)
def _own_actions() -> frozenset[str]:
    """Name the actions that Voice ID never had, without their prefix."""
    from sonant.carriers.authorizer import STREAM_AUDIO
    from sonant.gateway.models import load_models

    operations = load_models().operations.values()
    return frozenset(one.name for one in operations if one.service == OWN) | {STREAM_AUDIO.name}
