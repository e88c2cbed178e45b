"""Checks of what needs a hand now and then: audit trail, events, backups, waiting jobs."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select

from sonant.assembly.installation import audit_folders, lost_trail
from sonant.assembly.installation.folders import size_bytes
from sonant.audit import chain
from sonant.cli.checks import opened
from sonant.errors import SetupError
from sonant.events import outbox
from sonant.settings import Settings
from sonant.storage.database.schema import domains
from sonant.storage.repositories import access, counters, jobs
from sonant.storage.times import from_us, now

#: How long an event may wait for a sink: longer than any pause between two attempts by default.
MOST_EVENT_WAIT = timedelta(hours=1)
#: How long a job may be without a runner: longer than a service takes to start another.
MOST_JOB_WAIT = timedelta(minutes=10)
#: Most jobs that are named.
_MOST_NAMED = 5


def check_audit_trail(settings: Settings) -> str:
    """Count the files of the audit trail. Raises SetupError when it is lost."""
    if not settings.audit.enabled:
        return "switched off"
    with opened(settings) as store, store.database.read() as connection:
        in_use = bool(access.list_principals(connection))
    folders = audit_folders(settings)
    if in_use and not folders:
        raise SetupError(lost_trail(settings))
    files = [file for folder in folders for file in chain.files(folder)]
    size_mb = sum(size_bytes(file) for file in files) / 1e6
    return (
        f"{len(files)} files of {size_mb:,.1f} MB in {len(folders)} chains (`sonant audit verify` reads them)"
    )


def check_events(settings: Settings) -> str:
    """Count the events that wait for sinks. Raises SetupError when one waits for long."""
    names = [name.strip() for name in settings.events.sinks.split(",") if name.strip()]
    if not names:
        return "no sinks"
    with opened(settings) as store, store.database.read() as connection:
        waiting, oldest = outbox.waiting(connection), outbox.oldest_waiting(connection)
    late = {sink: since for sink, since in oldest.items() if now() - since > MOST_EVENT_WAIT}
    if late:
        told = "; ".join(
            f"{waiting[sink]:,} events wait for the sink {sink}, the oldest since {_shown(since)}"
            for sink, since in sorted(late.items())
        )
        keep = settings.events.give_up_days
        dropped = f"; what waits for {keep:g} days is dropped" if keep else ""
        raise SetupError(
            f"{told}: see that a runner works and that the sink can be reached; its faults are in the "
            f"runner's log{dropped}"
        )
    return ", ".join(f"{waiting.get(name, 0):,} wait for {name}" for name in names)


def check_jobs(settings: Settings) -> str:
    """Count the jobs that wait for a runner. Raises SetupError when one waits for long and no runner works.

    Runners that have jobs will come to those that wait: jobs take turns.
    """
    with opened(settings) as store, store.database.read() as connection:
        lease = timedelta(seconds=settings.jobs.lease_s)
        waiting = jobs.list_waiting(connection, now(), lease)
        running = jobs.count_running(connection, now(), lease)
    if running and waiting:
        return f"{len(waiting)} jobs wait while runners work on {running}"
    late = [job for job in waiting if abs(now() - job.waiting_since) > MOST_JOB_WAIT]
    if late:
        named = ", ".join(f"{job.job_id} since {_shown(job.waiting_since)}" for job in late[:_MOST_NAMED])
        more = f" and {len(late) - _MOST_NAMED} more" if len(late) > _MOST_NAMED else ""
        raise SetupError(
            f"jobs without a runner: {named}{more}. Start `sonant serve` or `sonant worker`; what a job has "
            "done is kept, and the next runner goes on with it"
        )
    return f"{len(waiting)} jobs wait for a runner"


def check_backup(settings: Settings) -> str:
    """Say how old the last backup is. Raises SetupError when it is older than the settings allow.

    An installation without backups has them due from its first domain on.
    """
    most = timedelta(days=settings.backup.most_days)
    with opened(settings) as store, store.database.read() as connection:
        made_s = counters.read(connection).get((counters.LAST_BACKUP, ""))
        first_us = connection.execute(select(func.min(domains.c.created_at))).scalar()
    if made_s is not None:
        made = datetime.fromtimestamp(made_s, now().tzinfo)
        told, since = f"the last backup was made on {_shown(made)}", made
    elif first_us is None:
        return "there is nothing to back up yet"
    else:
        told, since = "`sonant backup` has made none", from_us(first_us)
    if most and now() - since > most:
        raise SetupError(
            f"{told}: make one with `sonant backup FILE`, and keep it off this machine; the setting "
            "backup.most_days says how old one may be, 0 that backups are made by other means"
        )
    return told


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
