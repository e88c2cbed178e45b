"""Build the audit trail of an installation, and gather what its verification needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sonant.assembly.installation import Store, audit_folders, own_audit_folder
from sonant.audit.chain_keys import RootKey
from sonant.audit.destinations import Destination, HeadMessage, build_destinations
from sonant.audit.findings import FindingsTrail
from sonant.audit.heads import ChainRegister, HeadKeeper, host_name
from sonant.audit.key_files import ChainState, KeyFiles
from sonant.audit.names import FIRST, REMOVALS, chain_folder, chain_name
from sonant.audit.removal import RemovableFiles, removable, remove, statements
from sonant.audit.trail import Trail
from sonant.audit.verification import ChainReport, Evidence, Fault, Head, Reason, check_chain
from sonant.errors import SetupError, SonantError
from sonant.settings import Settings
from sonant.storage.crypto.service_secret import ServiceSecret
from sonant.storage.repositories import audit_chains
from sonant.storage.repositories.audit_chains import RecordedChain


def service_root(secret: ServiceSecret) -> RootKey:
    """Return the root of sections that the service's own key begins."""
    return RootKey(kept=False, key=secret.audit_root)


def service_roots(secret: ServiceSecret) -> tuple[RootKey, ...]:
    """Return the roots of all sections that keys of the service have begun, the present one first."""
    former = (RootKey(kept=False, key=key) for key in secret.former_audit_roots)
    return (service_root(secret), *former)


def installation_ids(secret: ServiceSecret) -> tuple[str, ...]:
    """Return the ids that heads are and were sent with, the present one first."""
    return tuple(root.key_id.partition(":")[2] for root in service_roots(secret))


def audit_keys(settings: Settings, secret: ServiceSecret) -> KeyFiles:
    """Return the present keys of the trail's chains."""
    return KeyFiles(settings.data, lambda: service_root(secret))


def open_trail(store: Store) -> tuple[Trail | None, Callable[[], None]]:
    """Open the audit trail and lock its folder; None when the settings disable it. Raises SetupError.

    The second value closes both, and records the last heads.
    """
    settings, lock = store.settings, ExitStack()
    if not settings.audit.enabled:
        return None, lock.close
    destinations = build_destinations(settings)
    folder = lock.enter_context(own_audit_folder(settings))
    keys = audit_keys(settings, store.secret)
    trail = Trail(
        folder,
        settings.audit,
        region=settings.region,
        clock=store.clock,
        keys=keys,
        announce=partial(_begin, store),
    )
    keeper = head_keeper(store, keys, destinations)
    keeper.start()

    def close() -> None:
        trail.close()
        keeper.stop()
        lock.close()

    return trail, close


def head_keeper(store: Store, keys: KeyFiles, destinations: Sequence[Destination]) -> HeadKeeper:
    """Build what records the heads of all chains of the data folder."""
    return HeadKeeper(
        keys=keys,
        database=store.database,
        register=chain_register(store),
        installation=lambda: installation_ids(store.secret)[0],
        destinations=destinations,
        interval_s=store.settings.audit.heads_s,
        clock=store.clock,
    )


def chain_register(store: Store) -> ChainRegister:
    """Return the rows of the trail's chains in the database."""
    return ChainRegister(lambda: store.secret.audit_root, store.clock)


def findings_trail(store: Store) -> FindingsTrail | None:
    """Build the trail of what is done without a call; None when the settings disable the audit trail."""
    settings = store.settings
    if not settings.audit.enabled:
        return None
    keys, register = audit_keys(settings, store.secret), chain_register(store)
    return FindingsTrail(settings.data / "audit", settings.audit, keys, register)


def _begin(store: Store, name: str, chain_id: str) -> None:
    with store.database.write() as connection:
        chain_register(store).begin(connection, name, chain_id)


# --- removal


def remove_before(
    store: Store, day: str, kept_keys: Sequence[RootKey], *, by: str, reason: str, dry_run: bool
) -> list[RemovableFiles]:
    """Remove the files of all chains whose day is before `day` (YYYY-MM-DD), with a statement of each chain.

    Statements themselves stay. `dry_run` only finds the files. Raises SetupError for a trail with faults,
    which removal would hide.
    """
    settings = store.settings
    trail, keys = settings.data / "audit", audit_keys(settings, store.secret)
    removed = statements(trail)
    found = []
    for folder in audit_folders(settings):
        name = chain_name(folder)
        if name == REMOVALS:
            continue
        known = removed.get(name, [None])[-1]
        one = removable(folder, day, known)
        if one is not None:
            found.append(one)
    if dry_run or not found:
        return found
    faults = [fault for report in verify(settings, kept_keys, store).reports for fault in report.faults]
    if faults:
        raise SetupError(
            f"the trail has {len(faults)} faults, the first {faults[0].reason} ({faults[0].message}), which "
            "removal would hide: see `sonant audit verify`, and keep a copy of the data folder"
        )
    for one in found:
        remove(trail, one, keys, by=by, reason=reason, now=store.clock(), announce=partial(_begin, store))
    state = keys.read(REMOVALS)
    if state is not None:
        with store.database.write() as connection:
            chain_register(store).record(connection, REMOVALS, state)
    return found


# --- verification


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailReport:
    """The result of a check of all chains."""

    reports: Sequence[ChainReport]
    recorded: bool
    """Whether a database of this release was there to compare with."""
    destinations: Sequence[str]
    """Places outside that were compared."""

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with any chain."""
        return not any(report.faults for report in self.reports)


def verify(
    settings: Settings,
    kept_keys: Sequence[RootKey],
    store: Store | None,
    *,
    expected: frozenset[str] = frozenset(),
    elsewhere: bool = False,
) -> TrailReport:
    """Check all chains against their keys, the database and the places that heads were sent to.

    Without a store, as for a copy of the folder `audit`, only kept keys are there to check with. `expected`
    are hashes to look for. `elsewhere`: other hosts have data folders of their own, whose chains are not
    missed here. Raises SetupError.
    """
    trail = settings.data / "audit"
    roots = {root.key_id: root for root in kept_keys}
    rows: Sequence[RecordedChain] | None = None
    changed: Sequence[str] = ()
    keys: KeyFiles | None = None
    if store is not None:
        roots |= {root.key_id: root for root in service_roots(store.secret)}
        keys = audit_keys(settings, store.secret)
    states = _states(settings.data, keys)  # before the lines are read: a running service goes on
    if store is not None:
        with store.database.read() as connection:
            found = audit_chains.list_recorded(connection, store.secret.audit_row_keys())
        if found is not None:
            rows, changed = found
    heads = (
        [] if rows is None else [_row_head(row) for row in rows if not elsewhere or row.host == host_name()]
    )
    sources, unreadable = [], []
    if store is not None:
        for destination in build_destinations(settings):
            try:
                for installation in installation_ids(store.secret):
                    sent = destination.read(installation)
                    heads += [_sent_head(head, destination.shown) for head in sent]
                sources.append(destination.shown)
            except SonantError as fault:
                unreadable.append(f"{destination.shown} cannot be compared: {fault}")
    removed = statements(trail)
    names = {chain_name(folder) for folder in audit_folders(settings)} | set(states)
    names |= {head.name for head in heads if head.sequence}
    if rows:
        names.add(FIRST)
    reports = []
    for name in sorted(names, key=_order):
        state, state_fault = states.get(name, (None, ""))
        evidence = Evidence(
            roots=roots,
            state=state,
            state_fault=state_fault,
            heads=[head for head in heads if head.name == name and head.sequence],
            removed=removed.get(name, ()),
        )
        report = check_chain(chain_folder(trail, name), name, evidence, expected)
        more = _faults_of_records(report, kept_keys, rows, changed)
        if name == FIRST and rows and not report.folder.is_dir() and not report.faults:
            more.append(Fault(reason=Reason.MISSING_CHAIN, message=f"the folder {report.folder} is missing"))
        if name == FIRST:
            more += [Fault(reason=Reason.UNREADABLE_HEADS, message=message) for message in unreadable]
        reports.append(replace(report, faults=(*report.faults, *more)))
    return TrailReport(reports=reports, recorded=rows is not None, destinations=sources)


def rebuild_key_files(settings: Settings, secret: ServiceSecret) -> None:
    """Write the key files of a restored installation, whose backup leaves them out.

    Only chains that are whole and that the service's own key seals have their keys followed again. Any other
    begins a new section, which `verify` reports.
    """
    trail, keys = settings.data / "audit", audit_keys(settings, secret)
    roots = {root.key_id: root for root in service_roots(secret)}
    removed = statements(trail)
    for folder in audit_folders(settings):
        name = chain_name(folder)
        evidence = Evidence(roots=roots, removed=removed.get(name, ()))
        report = check_chain(folder, name, evidence)
        unexpected = [fault for fault in report.faults if fault.reason != Reason.MISSING_KEY_FILE]
        if report.next_state is not None and not unexpected:
            keys.write(name, report.next_state)


def _faults_of_records(
    report: ChainReport,
    kept_keys: Sequence[RootKey],
    rows: Sequence[RecordedChain] | None,
    changed: Sequence[str],
) -> list[Fault]:
    """Find what is wrong with what is known about a chain, its lines aside."""
    faults = []
    own = report.chain_ids & set(changed)
    if own:
        faults.append(
            Fault(
                reason=Reason.CHANGED_RECORD,
                message="its record in the database was changed by somebody without the service's key",
            )
        )
    known = set() if rows is None else {row.chain_id for row in rows}
    if rows and report.lines and not report.chain_ids:
        faults.append(
            Fault(
                reason=Reason.MISSING_SEAL,
                message="no line is sealed, though the service seals every line it writes here",
            )
        )
    elif rows is not None and report.chain_ids - known:
        faults.append(
            Fault(
                reason=Reason.NOT_RECORDED,
                message="the database has no record of this chain: it was deleted there, or the chain was "
                "put here from elsewhere",
            )
        )
    if kept_keys and report.roots and report.roots[-1] not in {root.key_id for root in kept_keys}:
        faults.append(
            Fault(
                reason=Reason.OTHER_KEY,
                message=f"the last lines are sealed with the key {report.roots[-1]}, which is not one of "
                "those given",
            )
        )
    return faults


def _states(data: Path, keys: KeyFiles | None) -> dict[str, tuple[ChainState | None, str]]:
    """Read all key files: where each chain goes on, or what is wrong with its file."""
    found: dict[str, tuple[ChainState | None, str]] = {}
    for name in () if keys is None else keys.names():
        try:
            found[name] = (keys.read(name), "") if keys is not None else (None, "")
        except ValueError as fault:
            found[name] = (None, str(fault))
    return found


def _row_head(row: RecordedChain) -> Head:
    return Head(
        source="the database",
        chain_id=row.chain_id,
        name=row.name,
        sequence=row.sequence,
        head=row.head,
    )


def _sent_head(head: HeadMessage, source: str) -> Head:
    return Head(source=source, chain_id=head.chain_id, name=head.name, sequence=head.sequence, head=head.head)


def _order(name: str) -> tuple[bool, int, str]:
    """Sort the first process before the others."""
    return name != FIRST, len(name), name
