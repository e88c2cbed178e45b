"""Build what renews the template spaces of domains, for the command and for the housekeeping."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy import Connection

from sonant.assembly.audit_trail import findings_trail
from sonant.assembly.installation import Store
from sonant.audit.findings import TemplateRenewal
from sonant.errors import SetupError
from sonant.storage.repositories.domains import Domain
from sonant.storage.template_renewal import Renewal, TemplateRenewer

log = logging.getLogger(__name__)

#: The pause between two transactions, in which other writers of an SQLite database go first.
PAUSE_S = 0.02


def build_renewer(
    store: Store, *, by: str, pause: Callable[[], None] = lambda: time.sleep(PAUSE_S)
) -> TemplateRenewer:
    """Build the renewer; the audit trail says that `by` has run it."""
    trail = findings_trail(store)

    def note(connection: Connection, domain: Domain, renewal: Renewal) -> None:
        done = "finished" if renewal.finished else "begun"
        log.info(
            "domain %s: renewal of templates to version %d %s", domain.domain_id, renewal.new_version, done
        )
        if trail is None:
            return
        record = TemplateRenewal(
            by=by,
            finished=renewal.finished,
            details={"version": renewal.new_version, "formerVersion": renewal.old_version},
        )
        try:
            trail.add_renewal(domain, record, store.clock(), connection)
        except (OSError, SetupError) as fault:
            if store.settings.audit.required:
                raise SetupError(f"the audit trail cannot be written: {fault}") from None
            log.error("the audit trail of jobs cannot be written: %s", fault)

    return TemplateRenewer(
        database=store.database, keys_of=store.backends.keys, clock=store.clock, note=note, pause=pause
    )
