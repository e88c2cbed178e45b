"""`sonant key renew-templates`: moves stored embeddings to new template spaces."""

from __future__ import annotations

import getpass
import sys
from contextlib import closing
from typing import Any

import click

from sonant.assembly.installation import Store, open_store
from sonant.assembly.template_renewal import build_renewer
from sonant.cli.context import CliContext, Command, pass_cli, table
from sonant.cli.folder_domains import told_why_closed
from sonant.storage.repositories import domains
from sonant.storage.template_renewal import Renewal, TemplateRenewer


@click.command("renew-templates", cls=Command)
@click.argument("domain_ids", metavar="[DOMAIN_ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Renew all active domains of all accounts.")
@pass_cli
def renew_templates(cli: CliContext, domain_ids: tuple[str, ...], every: bool) -> None:
    """Move the voiceprints of domains, and all else that is made of voices, to new template spaces.

    Scores stay as they are; whatever was copied of the earlier templates can be compared with nothing any
    more. The service may run. A renewal that was killed is finished by the next call, which begins no other.
    Exits 1 when damaged rows are left, and keeps the earlier key for them.
    """
    if every == bool(domain_ids):
        raise click.UsageError("name domains, or give --all")
    with closing(_Opened(cli)) as opened:
        wanted = opened.active() if every else domain_ids
        done = [opened.renew(domain_id) for domain_id in dict.fromkeys(wanted)]
    rows = [
        (one.domain_id, f"{one.old_version} -> {one.new_version}", one.moved, one.left, _status(one))
        for one in done
    ]
    document = {"Renewals": [_document(one) for one in done]}
    cli.show(document, table(rows, ("DOMAIN", "VERSION", "MOVED", "LEFT", "STATUS")))
    if not all(one.finished for one in done):
        sys.exit(1)


class _Opened:
    """The installation while its domains are renewed."""

    def __init__(self, cli: CliContext) -> None:
        self._cli = cli
        self._store: Store = open_store(cli.settings())
        self._renewer: TemplateRenewer = build_renewer(self._store, by=getpass.getuser())

    def close(self) -> None:
        self._store.database.close()

    def active(self) -> list[str]:
        """List the active domains, oldest first."""
        with self._store.database.read() as connection:
            found = [one for one in domains.list_all(connection) if one.active]
        return [one.domain_id for one in sorted(found, key=lambda one: (one.created_at, one.domain_id))]

    def renew(self, domain_id: str) -> Renewal:
        """Renew one domain. Raises SetupError."""
        with told_why_closed(domain_id):
            left = self._renewer.rows_left(domain_id)
            with self._cli.progress_bar(length=left, label=domain_id) as bar:
                return self._renewer.renew(domain_id, progress=bar.update)


def _status(one: Renewal) -> str:
    if not one.finished:
        return "damaged rows are left: `sonant doctor --integrity` names them"
    return "finished, begun by an earlier call" if one.resumed else "finished"


def _document(one: Renewal) -> dict[str, Any]:
    return {
        "DomainId": one.domain_id,
        "FormerVersion": one.old_version,
        "Version": one.new_version,
        "Resumed": one.resumed,
        "RowsMoved": one.moved,
        "RowsLeft": one.left,
        "Finished": one.finished,
    }
