"""`sonant doctor`: tries everything that a service needs and says what to do.

It leaves nothing behind: trial files are deleted, trial rows rolled back. It advises nothing that could
destroy data or evidence that may still be needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

import click

from sonant.cli.checks import asking_once
from sonant.cli.context import CliContext, Command, pass_cli
from sonant.errors import SonantError
from sonant.settings import Settings
from sonant.storage.database.errors import error_text

Check = Callable[[], str]


@click.command(cls=Command)
@click.option(
    "--integrity", is_flag=True, help="Check also that every row of the database is as it was written."
)
@pass_cli
def doctor(cli: CliContext, integrity: bool) -> None:
    """Check settings, models, database, keys, places, service and backups, and say what to do.

    Exits 0 when all is well, 1 when something needs doing.
    """
    results = []
    with asking_once():
        for name, check in _checks(cli.settings, integrity=integrity):
            passed, message = run_check(check)
            results.append({"Name": name, "Passed": passed, "Message": message})
            shown = (
                click.style("ok    ", fg="green") if passed else click.style("FAIL  ", fg="red", bold=True)
            )
            cli.print_text(f"{shown}{name}: {message}")
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
    from sonant.cli.checks import database, keys, models, people, places, running, upkeep

    yield "settings", lambda: check_settings(load())
    yield "service model", models.check_service_model
    yield "manifest reader", models.check_manifest_reader
    yield "voice models", models.check_voice_models
    yield "spoofing models", models.check_spoofing_models
    try:
        settings = load()
    except SonantError:
        return  # the first check has said why; the others would only repeat it
    of_settings: dict[str, Callable[[Settings], str]] = {
        "added voice models": models.check_added_models,
        "countermeasures": models.check_countermeasures,
        "data folder": places.check_data_folder,
        "modes": places.check_modes,
        "writing": places.check_writing,
        "database": database.check_database,
        **({"integrity": database.check_integrity} if integrity else {}),
        "regions": database.check_regions,
        "keys": keys.check_key_store,
        "key files": keys.check_key_files,
        "domain keys": keys.check_domain_keys,
        "memory": keys.check_memory,
        "voiceprints": models.check_voiceprints,
        "administrators": people.check_administrators,
        "policies": people.check_policies,
        "audit trail": upkeep.check_audit_trail,
        "events": upkeep.check_events,
        "buckets": places.check_buckets,
        "remote stores": running.check_remote,
        "cluster": running.check_cluster,
        "certificate": running.check_certificate,
        "clock": running.check_clock,
        "backup": upkeep.check_backup,
        "jobs": upkeep.check_jobs,
        "runner": running.check_runner,
        "service": running.check_service,
    }
    for name, check in of_settings.items():
        yield name, partial(check, settings)


def check_settings(settings: Settings) -> str:
    """Describe the settings that matter most."""
    location = f"region {', '.join(settings.served_regions)}, account {settings.account}"
    return f"data {settings.data}, {location}, {settings.workers} workers"
