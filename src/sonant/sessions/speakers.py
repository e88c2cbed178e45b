"""The speaker of a session: found, or made when the customer's id is new."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from sonant.errors import ResourceNotFound, ServiceQuotaExceeded
from sonant.ids import new_generated_id
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import speakers
from sonant.storage.repositories.domains import Domain
from sonant.storage.repositories.speakers import Speaker


def require_speaker(
    connection: Connection, vault: Vault, domain: Domain, speaker_id: str, quota: int, now: datetime
) -> Speaker:
    """The speaker of this id, the customer's own or a generated one, as a session wants it.

    A customer's id that is new becomes a PENDING speaker, which takes one of the domain's `quota` places.
    Raises ResourceNotFound SPEAKER for an unknown generated id, ServiceQuotaExceeded when there is no room.
    """
    found = speakers.find(connection, vault, domain.domain_id, speaker_id)
    if found is not None:
        return found
    if speaker_id.startswith("id#"):
        raise ResourceNotFound("SPEAKER")
    if speakers.count(connection, domain.domain_id) >= quota:
        raise ServiceQuotaExceeded.of("domain", quota, "speakers")
    new_id = new_generated_id()
    speakers.add(
        connection,
        vault,
        domain_id=domain.domain_id,
        speaker_id=new_id,
        customer_id=speaker_id,
        status="PENDING",
        now=now,
    )
    made = speakers.find(connection, vault, domain.domain_id, new_id)
    assert made is not None
    return made
