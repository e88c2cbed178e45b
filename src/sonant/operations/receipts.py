"""Sonant's own DescribeDeletionReceipt: the signed proof of a speaker's deletion or opt-out."""

from __future__ import annotations

import json
import logging

from sonant.errors import InternalServer, ResourceNotFound, SetupError
from sonant.operations.registry import ExecutorKind, operation
from sonant.operations.service import Answer, Caller, Request, Service
from sonant.retention import ledger, receipts
from sonant.retention.ledger import LedgerEntry, LedgerKey
from sonant.storage.repositories import speakers

log = logging.getLogger(__name__)


@operation(executor=ExecutorKind.LONG)
def describe_deletion_receipt(service: Service, caller: Caller, request: Request) -> Answer:
    """Issue the receipt of what the deletion ledger records of a speaker, who must not be back since.

    It certifies the deletion of the entry, the voiceprint and their keys; `sonant speaker prove-deleted` also
    looks into files, objects and backups.
    """
    domain_id, speaker_id = request["DomainId"], request["SpeakerId"]
    with service.open_domain(caller, domain_id, write=False) as (connection, _domain, vault):
        speaker = speakers.find(connection, vault, domain_id, speaker_id)
        customer = "" if speaker_id.startswith("id#") else vault.lookup(speaker_id).hex()
    if service.ledger is None:
        raise ResourceNotFound("SPEAKER", "The deletion ledger is switched off: there are no receipts.")
    key = service.ledger.key
    try:
        recorded = ledger.read(service.ledger.folder, key).entries
    except SetupError as fault:
        log.error("%s", fault)
        raise InternalServer from None
    entries = [one for one in recorded if _is_of(one, key, domain_id, speaker_id, customer)]
    if not entries:
        raise ResourceNotFound("SPEAKER", "The deletion ledger has no deletion or opt-out of this speaker.")
    stays = "OPTED_OUT" if entries[-1].what == "OPT_OUT_SPEAKER" else None
    if speaker is not None and speaker.status != stays:
        raise ResourceNotFound("SPEAKER", "The speaker is there again: a receipt would no longer be true.")
    document = receipts.issue(entries, service.secret.receipt_seed, service.clock())
    return {"Receipt": json.dumps(document, indent=2)}


def _is_of(entry: LedgerEntry, key: LedgerKey, domain_id: str, speaker_id: str, customer: str) -> bool:
    if entry.what not in receipts.RECEIPT_ACTIONS or entry.domain not in key.domains(domain_id):
        return False
    return entry.customer == customer if customer else entry.id in key.members(domain_id, speaker_id)
