"""The `sonant` command: its list of commands, each loaded when it is used, and how every fault ends."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NamedTuple

import click

from sonant import __version__, logs
from sonant.cli.context import CliContext, Group, pass_cli
from sonant.errors import SonantError, WireError

#: Exit codes that all commands share; those that some commands add are on the page docs/commands.md.
FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


class LazyCommand(NamedTuple):
    """A command that is imported when it runs, so that `sonant --help` need not import all of them."""

    module: str
    attribute: str
    help: str
    """The line in the list of commands: the first sentence of the command's own help."""


#: By name, in the order in which a newcomer meets them.
COMMANDS: dict[str, LazyCommand] = {
    "init": LazyCommand("sonant.cli.init", "init", "Make an installation and its settings file."),
    "serve": LazyCommand("sonant.cli.serve", "serve", "Serve the API and run jobs."),
    "demo": LazyCommand(
        "sonant.demo.run", "demo", "Enroll real telephone speakers in a batch job and verify them."
    ),
    "evaluate": LazyCommand("sonant.cli.evaluate", "evaluate", "Measure error rates of the voice pipeline."),
    "calibrate": LazyCommand(
        "sonant.cli.calibrate_group", "calibrate", "Measure what scores mean among your own callers."
    ),
    "speaker": LazyCommand(
        "sonant.cli.speaker", "speaker", "List, opt out, delete and export speakers, and prove deletions."
    ),
    "consent": LazyCommand(
        "sonant.cli.consent", "consent", "Record, show and withdraw consents of speakers, and require them."
    ),
    "watchlist": LazyCommand("sonant.cli.watchlist", "watchlist", "List, make and delete watchlists."),
    "fraudster": LazyCommand(
        "sonant.cli.watchlist", "fraudster", "List fraudsters, move them between watchlists, delete them."
    ),
    "session": LazyCommand(
        "sonant.cli.session", "session", "Start, watch and end sessions of live calls; stream audio to them."
    ),
    "voice-id": LazyCommand(
        "sonant.cli.voice_id", "voice_id", "Call the Voice ID API with the options of `aws voice-id`."
    ),
    "job": LazyCommand("sonant.cli.job", "job", "Start, list, watch, stop and repeat batch jobs."),
    "key": LazyCommand("sonant.cli.key", "key", "Manage the keys that encrypt domains and results."),
    "access": LazyCommand("sonant.cli.access", "access", "Manage users, roles, policies and access keys."),
    "model": LazyCommand("sonant.cli.model", "model", "Add voice models, and choose one for a domain."),
    "domain": LazyCommand(
        "sonant.cli.domain",
        "domain",
        "List domains, import opt-outs, restore a domain, repeat deletions, unlock a fraudster.",
    ),
    "audit": LazyCommand(
        "sonant.cli.audit", "audit", "Read, check and shorten the audit trail of all calls."
    ),
    "client": LazyCommand(
        "sonant.cli.client", "client", "Add Sonant's own operations to boto3 and the AWS CLI."
    ),
    "manifest": LazyCommand(
        "sonant.cli.manifest", "manifest", "Find out what a job would make of a manifest."
    ),
    "object": LazyCommand(
        "sonant.cli.object", "object_", "List, read, write and delete objects in local buckets."
    ),
    "worker": LazyCommand("sonant.cli.worker", "worker", "Run jobs without serving the API."),
    "migrate": LazyCommand("sonant.cli.migrate", "migrate", "Bring the database to this release's tables."),
    "backup": LazyCommand(
        "sonant.cli.backup", "backup", "Write an encrypted backup of database, keys, models and audit trail."
    ),
    "restore": LazyCommand("sonant.cli.backup", "restore", "Make a new installation from a backup."),
    "doctor": LazyCommand(
        "sonant.cli.doctor",
        "doctor",
        "Check settings, models, database, keys, places, service and backups, and say what to do.",
    ),
}


class MainGroup(Group):
    """The top group. Its help comes from COMMANDS; a command's module is imported when it is called."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return [*COMMANDS, *self.commands]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        listed = COMMANDS.get(name)
        if listed is None:
            return super().get_command(context, name)
        command: click.Command = getattr(importlib.import_module(listed.module), listed.attribute)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, listed.help) for name, listed in COMMANDS.items()]
        rows += [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=MainGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="sonant", message="%(prog)s %(version)s")
def main() -> None:
    """Sonant: a self-hosted voice identity service that answers the Voice ID API."""


@main.command()
@pass_cli
def version(cli: CliContext) -> None:
    """Print the version."""
    cli.show({"Version": __version__}, f"sonant {__version__}")


def run() -> None:
    """Run the command line; every fault ends as one sentence on standard error and an exit code."""
    # Before anything imports numpy: the service scales by processes, and threads of a numerical library
    # would only compete for each other's cores.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.umask(0o077)  # files that a command writes are their owner's alone, also in a folder open to others
    logs.configure("warning", "text")
    try:
        main(standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as fault:
        fault.show()
        sys.exit(fault.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except WireError as fault:
        _fail(f"{fault.code}: {fault.message or ''}")
    except BrokenPipeError:
        # The reader of a pipe has closed it: nothing more may be written, not even at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (SonantError, OSError) as fault:
        _fail(str(fault))
    except RecursionError:
        _fail("a file or an answer that the command reads is nested too deeply")
    except Exception as fault:
        from sonant.storage.database.errors import error_text

        sentence = error_text(fault)
        if sentence is None:
            raise
        _fail(sentence)


def _fail(sentence: str) -> None:
    click.echo(f"sonant: {sentence}", err=True)
    sys.exit(FAILED)
