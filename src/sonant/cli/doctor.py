"""`sonant doctor`: looks at everything a service needs and says what to do.

It makes and changes nothing, and advises nothing that could destroy what a person may still need.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing

import click
import numpy as np

from sonant.cli.common import database_fault
from sonant.errors import SetupError, SonantError
from sonant.settings import Settings

#: Less free space than this is worth a word.
_FREE_BYTES = 1 << 30
#: Commands that are told at once.
_CURES = 20
#: How long the database's file is looked at for damage: minutes are enough for some hundred gigabytes.
_CHECK_S = 600.0


def doctor(load: Callable[[], Settings]) -> int:
    """Print one line a check; 0 when all is well, 1 when something needs doing."""
    failed = 0
    for name, check in _checks(load):
        try:
            click.echo(f"ok    {name}: {check()}")
        except (SonantError, OSError) as fault:
            failed += 1
            click.echo(f"FAIL  {name}: {fault}")
        except Exception as fault:
            sentence = database_fault(fault)
            if sentence is None:
                raise
            failed += 1
            click.echo(f"FAIL  {name}: {sentence}")
    return 1 if failed else 0


def _checks(load: Callable[[], Settings]) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "settings", lambda: _settings(load())
    yield "service model", _service_model
    yield "manifest reader", _manifest_reader
    yield "voice models", _voice_models
    yield "fraud detectors", lambda: "none installed: jobs run without a fraud check and claim none"
    try:
        settings = load()
    except SonantError:
        return  # the first check has told why; the rest would only repeat it
    yield "added voice models", lambda: _added_models(settings)
    yield "data folder", lambda: _data(settings)
    yield "database", lambda: _database(settings)
    yield "regions", lambda: _regions(settings)
    yield "keys", lambda: _keys(settings)
    yield "voiceprints", lambda: _voiceprints(settings)
    yield "audit trail", lambda: _audit(settings)
    yield "buckets", lambda: _buckets(settings)
    yield "runner", lambda: _runner(settings)


def _settings(settings: Settings) -> str:
    place = f"region {', '.join(settings.served_regions)}, account {settings.account}"
    return f"data {settings.data}, {place}, {settings.workers} workers"


def _service_model() -> str:
    import botocore

    from sonant.gateway.models import load_models
    from sonant.operations import OPERATIONS

    known = {operation.name for operation in load_models().operations.values()}
    return (
        f"botocore {botocore.__version__}, {len(known & set(OPERATIONS))} of {len(known)} operations served"
    )


def _manifest_reader() -> str:
    from sonant.jobs.manifest import parser_name

    return parser_name()


def _voice_models() -> str:
    from sonant.voice.models import load_models
    from sonant.voice.models.embedding import embed

    models = load_models()
    embedding = embed(np.random.default_rng(1).normal(0, 0.1, 8000 * 3).astype(np.float32), models)
    return f"{embedding.model_id} ({len(embedding.vector)} dimensions), {models.detector_id}"


def _added_models(settings: Settings) -> str:
    from sonant.jobs.model_registry import calibrated, check_model
    from sonant.storage.model_files import ModelFiles

    files = ModelFiles(settings.data)
    found = files.ids()
    for model_id in found:
        check_model(files, model_id)
    bare = sum(not calibrated(files, model_id) for model_id in found)
    return f"{len(found)}" + (f", {bare} without calibration" if bare else "")


def _data(settings: Settings) -> str:
    free = shutil.disk_usage(settings.data if settings.data.exists() else ".").free
    word = f"{settings.data.absolute()}, {free / (1 << 30):.1f} GiB free"
    return word + (" - that is little" if free < _FREE_BYTES else "")


def _database(settings: Settings) -> str:
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


def _regions(settings: Settings) -> str:
    """Raises SetupError when domains are in Regions that no call can be signed for."""
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


def _keys(settings: Settings) -> str:
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
        keys.generate_data_key(DEFAULT_ALIAS, {"sonant": "doctor"})  # raises what the token has to say
    where = "" if settings.keys == "local" else f"{settings.keys}: "
    return f"{where}{len(keys.list())} keys, {DEFAULT_ALIAS} is {state}"


def _voiceprints(settings: Settings) -> str:
    from sonant.assembly.installation import open_store
    from sonant.storage.model_files import ModelFiles
    from sonant.storage.repositories import domains, shadow_voiceprints
    from sonant.voice.models import shipped_encoder_id

    people, cures, files = [0, 0], [], ModelFiles(settings.data)
    with closing(open_store(settings).database) as database, database.read() as connection:
        active = [domain for domain in domains.list_all(connection) if domain.active]
        for domain in active:
            if domain.model_id is not None:
                files.get(domain.model_id)
            own = domain.model_id or shipped_encoder_id()
            stale = [
                shadow_voiceprints.count_other_model(connection, domain.domain_id, own, who)
                for who in shadow_voiceprints.BOTH
            ]
            if sum(stale):
                people = [sum(pair) for pair in zip(people, stale, strict=True)]
                cures.append(f"`sonant model upgrade {domain.domain_id} {own}`")
    if cures:
        more = f" (and {len(cures) - _CURES} more domains)" if len(cures) > _CURES else ""
        raise SetupError(
            f"{people[0]} speakers and {people[1]} fraudsters have voiceprints of another voice model than "
            "their domain's, which cannot be compared; where speech was kept they are brought over, and the "
            f"others named, by {', '.join(cures[:_CURES])}{more}"
        )
    return f"of the voice models of their domains, in {len(active)} domains"


def _audit(settings: Settings) -> str:
    from sonant.assembly.installation import audit_folders, lost_trail, open_store
    from sonant.audit import chain
    from sonant.storage.repositories import access

    if not settings.audit.enabled:
        return "switched off"
    with closing(open_store(settings).database) as database, database.read() as connection:
        begun = bool(access.list_principals(connection))
    folders = audit_folders(settings)
    if begun and not folders:
        raise SetupError(lost_trail(settings))
    files = sum(len(chain.files(folder)) for folder in folders)
    return f"{files} files in {len(folders)} chains (`sonant audit verify` reads them)"


def _buckets(settings: Settings) -> str:
    from sonant.assembly.installation import open_store

    if settings.objects != "local":
        where = settings.s3.endpoint or "AWS"
        whose = "the roles of jobs" if settings.assumes_roles else "the service"
        return f"{settings.objects} at {where}, with the rights of {whose}"
    store = open_store(settings)
    with closing(store.database):
        buckets = store.objects.buckets()
    return f"{len(buckets)} in {settings.data / 'buckets'}" + ("" if buckets else " (make a folder there)")


def _runner(settings: Settings) -> str:
    """The runner beside the service of this folder. Raises SetupError when it cannot do jobs."""
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
