"""`sonant speaker` receipt, receipt-key, verify-receipt and prove-deleted: show that a person is erased."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from sqlalchemy import make_url

from sonant.assembly.installation import Store, ledger_key, open_store, write_private
from sonant.backup import remains
from sonant.backup.remains import Person, Remain
from sonant.cli.backup import key_file_option, read_passphrase
from sonant.cli.context import CliContext, Command, pass_cli
from sonant.errors import KeyError_, KeysUnreachable, SetupError
from sonant.retention import ledger, receipts
from sonant.retention.ledger import LedgerEntry, LedgerKey
from sonant.settings import Settings
from sonant.storage.opening import vault_of
from sonant.storage.repositories import domains


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A person of a domain, and what the ledger records of the person, oldest first."""

    store: Store
    key: LedgerKey
    person: Person
    entries: tuple[LedgerEntry, ...]

    def rows(self) -> list[Remain]:
        """Look for remains in the database."""
        with self.store.database.read() as connection:
            return remains.in_database(connection, self.person, self.key)


@click.command("receipt", cls=Command)
@click.argument("domain_id")
@click.argument("speaker_id")
@click.option("--out", type=click.Path(path_type=Path), help="Write the receipt here [default: print it].")
@pass_cli
def receipt(cli: CliContext, domain_id: str, speaker_id: str, out: Path | None) -> None:
    """Issue a signed receipt of a deletion or opt-out that the deletion ledger records.

    SPEAKER_ID is the customer's id or the generated id of a speaker or fraudster. It is not in the receipt:
    only a keyed hash is.
    """
    settings = cli.settings()
    with _case(settings, domain_id, speaker_id) as case:
        if not case.entries:
            raise SetupError(
                "the deletion ledger records no deletion of this person: nothing can be certified"
            )
        if left := case.rows():
            raise SetupError(
                f"the database holds something of this person again ({left[0].place}: {left[0].what}): "
                "see `sonant speaker prove-deleted`"
            )
        document = receipts.issue(case.entries, case.store.secret.receipt_seed, case.store.clock())
    text = json.dumps(document, indent=2)
    if out is None:
        click.echo(text)
        return
    write_private(out, text + "\n")
    cli.show({"Receipt": str(out), **document}, f"{out}: {case.entries[-1].what}, signed")


@click.command("receipt-key", cls=Command)
@pass_cli
def receipt_key(cli: CliContext) -> None:
    """Print the public key of this installation's receipts."""
    with _opened(cli.settings()) as store:
        public_key = receipts.public_key(store.secret.receipt_seed)
        former = [receipts.public_key(seed) for seed in store.secret.former_receipt_seeds]
    lines = [public_key, *(f"{one} (former)" for one in former)]
    cli.show({"PublicKey": public_key, "FormerPublicKeys": former}, lines)


@click.command("verify-receipt", cls=Command)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--public-key", help="Key of `receipt-key` that must have signed it [default: the data folder's own]."
)
@click.option("--domain-id", help="Check that the receipt is of this domain; needs the data folder.")
@click.option("--speaker-id", help="Check that it is of this generated id; needs --domain-id.")
@pass_cli
def verify_receipt(
    cli: CliContext, file: Path, public_key: str | None, domain_id: str | None, speaker_id: str | None
) -> None:
    """Check the signature of a deletion receipt; exits 1 when it does not hold."""
    if speaker_id is not None and domain_id is None:
        raise click.UsageError("--speaker-id needs --domain-id")
    try:
        document = json.loads(file.read_text("utf-8"))
        if not isinstance(document, dict):
            raise ValueError
    except (OSError, ValueError):
        raise SetupError(f"{file} is no deletion receipt") from None
    expected: dict[str, frozenset[str]] = {}
    if public_key is None or domain_id is not None:
        with _opened(cli.settings()) as store:
            public_key = public_key or _trusted_key(store, document)
            key = ledger_key(store.secret)
        if domain_id is not None:
            expected["domain"] = key.domains(domain_id)
        if domain_id is not None and speaker_id is not None:
            expected["person"] = key.members(domain_id, speaker_id)
    receipts.verify(document, public_key)
    for name, values in expected.items():
        if document.get(name) not in values:
            raise SetupError(f"the receipt is valid, and is of another {name}")
    made = [f"{one['action']} at {one['at']}" for one in document["deletions"]]
    cli.show({"Valid": True, **document}, f"{file} holds: {', '.join(made)}")


@click.command("prove-deleted", cls=Command)
@click.argument("domain_id")
@click.argument("speaker_id")
@click.option(
    "--backup",
    "backups",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A backup to look into as well; may be given several times.",
)
@key_file_option
@pass_cli
def prove_deleted(
    cli: CliContext, domain_id: str, speaker_id: str, backups: tuple[Path, ...], key_file: Path | None
) -> None:
    """Look for anything that is left of a deleted person; exits 1 when there is something.

    SPEAKER_ID is the customer's id or the generated id of a speaker or fraudster. Looks into the deletion
    ledger, the database and its files, the objects of local buckets, and the backups that are given.
    """
    settings = cli.settings()
    passphrase = read_passphrase(key_file, new=False) if backups else b""
    checked: dict[str, str] = {}
    with _case(settings, domain_id, speaker_id) as case:
        found = [] if case.entries else [Remain(place="deletion ledger", what="no record of a deletion")]
        checked["deletion ledger"] = f"{len(case.entries)} entries of this person"
        found += case.rows()
        checked["database"] = "all tables that hold keys, ids or voices"
        found += _in_database_files(case, checked)
        found += _in_objects(case, checked)
        for backup in backups:
            found += remains.in_backup(backup, passphrase, case.person, case.key)
            checked[f"backup {backup}"] = "every row"
    document = {
        "Deleted": not found,
        "Deletions": [{"Action": one.what, "At": one.at.isoformat()} for one in case.entries],
        "Checked": checked,
        "Remains": [one.to_json() for one in found],
    }
    lines = [f"{place}: {how}" for place, how in checked.items()]
    lines += [f"LEFT in {one.place}: {one.what} ({one.count})" for one in found]
    lines.append("something is left" if found else "nothing is left")
    cli.show(document, lines)
    sys.exit(1 if found else 0)


def _in_database_files(case: _Case, checked: dict[str, str]) -> list[Remain]:
    settings, wanted = case.store.settings, remains.needles(case.person)
    if not settings.embedded:
        checked["database files"] = "not looked at: PostgreSQL overwrites deleted rows when it vacuums them"
        return []
    case.store.database.truncate_wal()
    path = Path(make_url(settings.database_url).database or "")
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-journal")]
    checked["database files"] = "every byte, the write-ahead log included" if wanted else "no need: opted out"
    return remains.in_files(files, wanted, "file") if wanted else []


def _in_objects(case: _Case, checked: dict[str, str]) -> list[Remain]:
    settings, wanted = case.store.settings, remains.names(case.person)
    if settings.objects != "local":
        checked["objects"] = "not looked at: they are in S3"
        return []
    if not wanted:
        checked["objects"] = "no need: opted out"
        return []
    files = remains.object_files(settings.data / "buckets")
    checked["objects"] = f"{len(files)} objects; encrypted ones cannot be looked into"
    return remains.in_files(files, wanted, "object")


def _trusted_key(store: Store, document: dict[str, object]) -> str:
    """Choose the public key of this installation that a receipt must be signed with. Raises SetupError.

    A former service key may have leaked: a receipt under it must say what the deletion ledger records.
    """
    named = receipts.named_key(document)
    if named in map(receipts.public_key, store.secret.former_receipt_seeds):
        receipts.verify(document, named)
        recorded = ledger.read(store.settings.ledger_folder, ledger_key(store.secret)).entries
        if not receipts.recorded(document, recorded):
            raise SetupError(
                "the receipt is signed with a former key of this installation, and the deletion ledger does "
                "not record what it says"
            )
        return named
    return receipts.public_key(store.secret.receipt_seed)


@contextmanager
def _opened(settings: Settings) -> Iterator[Store]:
    store = open_store(settings)
    try:
        yield store
    finally:
        store.database.close()


@contextmanager
def _case(settings: Settings, domain_id: str, speaker_id: str) -> Iterator[_Case]:
    """Open the installation, and find what it knows of a person. Raises SetupError."""
    with _opened(settings) as store:
        key = ledger_key(store.secret)
        recorded, hashes = ledger.read(settings.ledger_folder, key).entries, key.domains(domain_id)
        of_domain = [
            entry for entry in recorded if entry.domain in hashes and entry.what in receipts.RECEIPT_ACTIONS
        ]
        ids: tuple[str, ...]
        if speaker_id.startswith("id#"):
            ids, customer_id = (speaker_id,), ""
            members = key.members(domain_id, speaker_id)
            entries = [entry for entry in of_domain if entry.id in members]
            hashed = entries[-1].customer if entries else ""
        else:
            ids, customer_id = (), speaker_id
            hashed = _lookup(store, domain_id, speaker_id).hex()
            entries = [entry for entry in of_domain if entry.customer == hashed]
        person = Person(
            domain_id=domain_id,
            generated_ids=ids,
            customer_id=customer_id,
            customer_id_hash=bytes.fromhex(hashed),
            destroyed_keys=frozenset(one.wrapped for entry in entries for one in entry.keys),
            opted_out=bool(entries) and entries[-1].what == "OPT_OUT_SPEAKER",
        )
        yield _Case(store=store, key=key, person=person, entries=tuple(entries))


def _lookup(store: Store, domain_id: str, customer_id: str) -> bytes:
    """Compute the keyed hash of a customer's id. Raises SetupError."""
    with store.database.read() as connection:
        domain = domains.find_by_id(connection, domain_id)
    if domain is None:
        raise SetupError(
            f"there is no domain {domain_id}; of an erased one, only generated ids can be looked up"
        )
    try:
        return vault_of(store.backends.keys, domain).lookup(customer_id)
    except (KeyError_, KeysUnreachable) as fault:
        raise SetupError(f"the key of domain {domain_id} cannot be used: {fault}") from None
