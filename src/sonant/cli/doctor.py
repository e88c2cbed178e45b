"""`sonant doctor`: checks everything that a service needs and says what to do.

It makes and changes nothing, and advises nothing that could destroy data that may still be needed.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import click
import numpy as np

from sonant.cli.context import CliContext, Command, pass_cli
from sonant.errors import SetupError, SonantError
from sonant.settings import Settings
from sonant.storage.database.errors import error_text

#: Less free space than this is pointed out.
_FREE_BYTES = 1 << 30
#: Most repair commands that one check prints.
_MOST_REPAIRS = 20
#: Most changed rows that `--integrity` names.
_MOST_ROWS = 1000
#: How long the database's file is checked for damage: minutes are enough for some hundred gigabytes.
_CHECK_S = 600.0

Check = Callable[[], str]


@click.command(cls=Command)
@click.option(
    "--integrity", is_flag=True, help="Check also that every row of the database is as it was written."
)
@pass_cli
def doctor(cli: CliContext, integrity: bool) -> None:
    """Check settings, models, database, keys and audio, and say what to do about each fault.

    Exits 0 when all is well, 1 when something needs doing.
    """
    results = []
    for name, check in _checks(cli.settings, integrity=integrity):
        passed, message = run_check(check)
        results.append({"Name": name, "Passed": passed, "Message": message})
        verdict = click.style("ok    ", fg="green") if passed else click.style("FAIL  ", fg="red", bold=True)
        cli.print_text(f"{verdict}{name}: {message}")
    healthy = all(result["Passed"] for result in results)
    cli.show({"Healthy": healthy, "Checks": results}, ())
    sys.exit(0 if healthy else 1)


def run_check(check: Check) -> tuple[bool, str]:
    """Run a check: whether it passed, and what was found or what is wrong."""
    try:
        return True, check()
    except (SonantError, OSError) as fault:
        return False, str(fault)
    except Exception as fault:
        sentence = error_text(fault)
        if sentence is None:
            raise
        return False, sentence


def _checks(load: Callable[[], Settings], *, integrity: bool = False) -> Iterator[tuple[str, Check]]:
    yield "settings", lambda: check_settings(load())
    yield "service model", _service_model
    yield "manifest reader", _manifest_reader
    yield "voice models", _voice_models
    yield "spoofing models", _spoofing_models
    try:
        settings = load()
    except SonantError:
        return  # the first check has said why; the others would only repeat it
    yield "added voice models", lambda: check_added_models(settings)
    yield "countermeasures", lambda: check_countermeasures(settings)
    yield "data folder", lambda: check_data_folder(settings)
    yield "database", lambda: check_database(settings)
    if integrity:
        yield "integrity", lambda: check_integrity(settings)
    yield "regions", lambda: check_regions(settings)
    yield "keys", lambda: check_key_store(settings)
    yield "key files", lambda: check_key_files(settings)
    yield "memory", lambda: check_memory(settings)
    yield "voiceprints", lambda: check_voiceprints(settings)
    yield "policies", lambda: check_policies(settings)
    yield "audit trail", lambda: check_audit_trail(settings)
    yield "buckets", lambda: check_buckets(settings)
    yield "runner", lambda: check_runner(settings)


def check_settings(settings: Settings) -> str:
    """Describe the settings that matter most."""
    location = f"region {', '.join(settings.served_regions)}, account {settings.account}"
    return f"data {settings.data}, {location}, {settings.workers} workers"


def _service_model() -> str:
    """Count the operations of botocore's service model that are served."""
    import botocore

    from sonant.gateway.models import load_models
    from sonant.operations import OPERATIONS

    known = {operation.name for operation in load_models().operations.values()}
    return (
        f"botocore {botocore.__version__}, {len(known & set(OPERATIONS))} of {len(known)} operations served"
    )


def _manifest_reader() -> str:
    """Name the JSON parser that reads manifests."""
    from sonant.jobs.manifest import parser_name

    return parser_name()


def _voice_models() -> str:
    """Embed three seconds of noise. Raises SonantError when a model file is damaged."""
    from sonant.voice.models import load_models
    from sonant.voice.models.embedding import embed

    models = load_models()
    embedding = embed(np.random.default_rng(1).normal(0, 0.1, 8000 * 3).astype(np.float32), models)
    return f"{embedding.model_id} ({len(embedding.vector)} dimensions), {models.detector_id}"


def _spoofing_models() -> str:
    """Load the spoofing detectors' networks. Raises SetupError when a model file is damaged."""
    from sonant.voice.spoofing.models import LIGHT, NETWORK, load_spoofing_models

    load_spoofing_models()
    return f"{LIGHT}, {NETWORK}"


def check_added_models(settings: Settings) -> str:
    """Check the files of added models. Raises SonantError for a damaged one."""
    from sonant.jobs.model_registry import calibrated, check_model
    from sonant.storage.model_files import ModelFiles

    files = ModelFiles(settings.data)
    found = files.ids()
    for model_id in found:
        check_model(files, model_id)
    uncalibrated = sum(not calibrated(files, model_id) for model_id in found)
    return f"{len(found)}" + (f", {uncalibrated} without calibration" if uncalibrated else "")


def check_countermeasures(settings: Settings) -> str:
    """Check the files and the calibration of added countermeasures. Raises SonantError for a damaged one."""
    from sonant.jobs.countermeasures import calibration_in_use, format_of
    from sonant.storage.countermeasure_files import CountermeasureFiles

    files = CountermeasureFiles(settings.data)
    found = files.models.ids()
    for model_id in found:
        manifest = files.models.get(model_id)
        format_of(manifest)
        files.models.read(manifest)
    own = calibration_in_use(files)
    used = set() if own is None else set(own.added)
    if missing := used - set(found):
        raise SetupError(
            f"the calibration in use needs {', '.join(sorted(missing))}, which is not there: add it again, "
            "or take the calibration back with `sonant calibrate spoofing --undo`"
        )
    idle = len(found) - len(used)
    return f"{len(found)}" + (f", {idle} not calibrated and not used" if idle else "")


def check_data_folder(settings: Settings) -> str:
    """Name the data folder and its free space."""
    free = shutil.disk_usage(settings.data if settings.data.exists() else ".").free
    text = f"{settings.data.absolute()}, {free / (1 << 30):.1f} GiB free"
    return text + (" - that is little" if free < _FREE_BYTES else "")


def check_database(settings: Settings) -> str:
    """Check the database for damage and count its rows. Raises SetupError for a damaged one."""
    from sqlalchemy import func, select, text

    from sonant.assembly.installation import open_store
    from sonant.storage.database.schema import domains, speakers

    with closing(open_store(settings).database) as database:
        damage = database.find_damage(_CHECK_S)
        if damage is not None:
            raise SetupError(damage)
        with database.read() as connection:
            counts = [
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (domains, speakers)
            ]
            checksums = (
                None if settings.embedded else connection.execute(text("SHOW data_checksums")).scalar()
            )
    found = f"{counts[0]} domains, {counts[1]} speakers"
    if checksums == "off":
        found += (
            "; its server has data checksums off: damaged pages may stay unnoticed (pg_checksums --enable)"
        )
    return found


def check_integrity(settings: Settings) -> str:
    """Check every row's MAC, and open what is sealed of every person. Raises SetupError that names rows."""
    from sonant.assembly.installation import open_store
    from sonant.storage.integrity_walk import count_rows, walk

    store, named = open_store(settings), list[str]()
    counts = Counter[str]()
    with closing(store.database) as database:
        for fault in walk(database, store.backends.keys):
            counts[fault.table] += 1
            if len(named) < _MOST_ROWS:
                named.append(f"{fault.table} {fault.key}: {fault.finding}")
        with database.read() as connection:
            checked = count_rows(connection)
    if named:
        more = counts.total() - len(named)
        raise SetupError(
            f"something else than Sonant has changed {counts.total()} rows: find out who can write to the "
            "database, and restore a backup (docs/row-integrity.md):\n  "
            + "\n  ".join(named)
            + (f"\n  and {more} more" if more else "")
        )
    return f"{checked} rows are as they were written"


def check_regions(settings: Settings) -> str:
    """List the Regions that are served. Raises SetupError when domains are in others."""
    from sqlalchemy import func, select

    from sonant.assembly.installation import open_store
    from sonant.storage.database.schema import domains

    counted = select(domains.c.region, func.count()).group_by(domains.c.region).order_by(domains.c.region)
    with open_store(settings).database.read() as connection:
        found = connection.execute(counted).all()
    lost = {region: count for region, count in found if region not in settings.served_regions}
    if lost:
        raise SetupError(
            f"{sum(lost.values())} domains are in {', '.join(lost)}, where no call reaches them: name it in "
            "`regions` (SONANT_REGIONS)"
        )
    return ", ".join(settings.served_regions)


def check_key_store(settings: Settings) -> str:
    """Check that every key in use is there. Raises SonantError when one is not."""
    from sqlalchemy import select

    from sonant.assembly.installation import DEFAULT_ALIAS, check_keys, open_store
    from sonant.storage.database.schema import domains

    store = open_store(settings)
    check_keys(store)
    if not store.backends.owns_keys:
        with store.database.read() as connection:
            used = select(domains.c.account_id, domains.c.region, domains.c.kms_key_arn).distinct()
            found = connection.execute(used).all()
        states = [
            store.backends.keys(row.account_id, row.region).describe(row.kms_key_arn).state for row in found
        ]
        return f"{settings.keys}: {states.count('Enabled')} of the {len(states)} keys in use are enabled"
    keys = store.accounts.keys(settings.account)
    state = keys.describe(DEFAULT_ALIAS).state
    if store.accounts.in_token and state == "Enabled":
        keys.generate_data_key(DEFAULT_ALIAS, {"sonant": "doctor"})  # raises what the token reports
    where = "" if settings.keys == "local" else f"{settings.keys}: "
    return f"{where}{len(keys.list())} keys, {DEFAULT_ALIAS} is {state}"


def check_key_files(settings: Settings) -> str:
    """Say how the key files lie, and how old the service key is. Raises SetupError for a mixture."""
    from sonant.assembly.installation import open_store
    from sonant.assembly.installation.key_wrapping import describe_key_files

    store = open_store(settings)
    with closing(store.database):
        keys, found = store.secret.keys, describe_key_files(store.accounts.known(), settings)
    if keys.unfinished is not None:
        raise SetupError(
            f"{found}; a rotation of the service key is not finished: run `sonant key rotate-service`"
        )
    last = keys.former[0].replaced_at if keys.former else None
    rotated = "never rotated" if last is None else f"rotated last on {last:%Y-%m-%d}"
    return f"{found}; service key {rotated}"


def check_memory(settings: Settings) -> str:
    """Say how the memory of processes with keys is protected."""
    from sonant.private_memory import is_readable, protect_memory

    protect_memory(core_dumps=settings.core_dumps, lock=settings.lock_memory)
    dumps = "may be dumped and read by other processes of this user" if is_readable() else "is never dumped"
    swap = "locked" if settings.lock_memory else "not locked: keep swap off or encrypted"
    return f"memory with keys {dumps}, and is {swap}"


def check_voiceprints(settings: Settings) -> str:
    """Raise SetupError when voiceprints are of another voice model than their domain's."""
    from sonant.assembly.installation import open_store
    from sonant.storage.model_files import ModelFiles
    from sonant.storage.repositories import domains, shadow_voiceprints, templates
    from sonant.voice.models import shipped_encoder_id

    counts, repairs, files = [0, 0], [], ModelFiles(settings.data)
    with closing(open_store(settings).database) as database, database.read() as connection:
        active = [domain for domain in domains.list_all(connection) if domain.active]
        unprotected = len(templates.list_due(connection))
        for domain in active:
            if domain.model_id is not None:
                files.get(domain.model_id)
            own = domain.model_id or shipped_encoder_id()
            stale = [
                shadow_voiceprints.count_other_model(connection, domain.domain_id, own, kind)
                for kind in shadow_voiceprints.BOTH
            ]
            if sum(stale):
                counts = [sum(pair) for pair in zip(counts, stale, strict=True)]
                repairs.append(f"`sonant model upgrade {domain.domain_id} {own}`")
    if repairs:
        more = f" (and {len(repairs) - _MOST_REPAIRS} more domains)" if len(repairs) > _MOST_REPAIRS else ""
        raise SetupError(
            f"{counts[0]} speakers and {counts[1]} fraudsters have voiceprints of another voice model than "
            "their domain's, which cannot be compared; where speech was kept they are brought over, and the "
            f"others named, by {', '.join(repairs[:_MOST_REPAIRS])}{more}"
        )
    waiting = f"; in {unprotected} they are still to be protected (`sonant key renew-templates`)"
    found = f"of the voice models of their domains, in {len(active)} domains"
    return found + (waiting if unprotected else "")


def check_policies(settings: Settings) -> str:
    """Count the users and roles. Raises SetupError when a policy rests on former names of actions."""
    from sonant.assembly.installation import former_policies, open_store
    from sonant.storage.repositories import access

    with closing(open_store(settings).database) as database, database.read() as connection:
        found = list(former_policies(connection))
        count = len(access.list_principals(connection))
    if found:
        more = f" (and {len(found) - _MOST_REPAIRS} more statements)" if len(found) > _MOST_REPAIRS else ""
        raise SetupError(
            f"{'; '.join(found[:_MOST_REPAIRS])}{more}. Change them with `sonant access user put` or "
            "`sonant access role put`"
        )
    return f"of {count} users and roles, in today's names of actions"


def check_audit_trail(settings: Settings) -> str:
    """Count the files of the audit trail. Raises SetupError when it is lost."""
    from sonant.assembly.installation import audit_folders, lost_trail, open_store
    from sonant.audit import chain
    from sonant.storage.repositories import access

    if not settings.audit.enabled:
        return "switched off"
    with closing(open_store(settings).database) as database, database.read() as connection:
        in_use = bool(access.list_principals(connection))
    folders = audit_folders(settings)
    if in_use and not folders:
        raise SetupError(lost_trail(settings))
    files = sum(len(chain.files(folder)) for folder in folders)
    return f"{files} files in {len(folders)} chains (`sonant audit verify` reads them)"


def check_buckets(settings: Settings) -> str:
    """Count the local buckets, or say where the remote ones are. Raises SonantError."""
    from sonant.assembly.installation import open_store

    if settings.objects != "local":
        where = settings.s3.endpoint or "AWS"
        rights = "the roles of jobs" if settings.assumes_roles else "the service"
        return f"{settings.objects} at {where}, with the rights of {rights}"
    store = open_store(settings)
    with closing(store.database):
        buckets = store.objects.buckets()
    return f"{len(buckets)} in {settings.data / 'buckets'}" + ("" if buckets else " (make a folder there)")


def check_runner(settings: Settings) -> str:
    """Describe the runner beside the service of this folder. Raises SetupError when it cannot do jobs."""
    from sonant.assembly.supervisor import stored_state

    noted = stored_state(settings)
    if noted is None:
        return "no service with a runner of its own runs on this folder"
    restarts = f"started again {noted.restarts} times" if noted.restarts else "never started again"
    if noted.missing:
        raise SetupError(
            f"none has been able to do jobs since {noted.down_since}: {noted.problem}; {restarts}; "
            "see the service's log"
        )
    return f"process {noted.pid}, {restarts}" if noted.pid else f"starting, {restarts}"
