"""The `sonant` command: thin, one function a subcommand. Errors are one sentence and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from sonant import __version__
from sonant.cli.access import access
from sonant.cli.common import Commands, data_option, database_fault, load_settings
from sonant.cli.evaluate_fraudsters import fraudsters
from sonant.cli.evaluate_spoofing import spoofing
from sonant.cli.evaluation import evaluate
from sonant.cli.key import key
from sonant.cli.model import model
from sonant.cli.session_group import session
from sonant.cli.voices import calibrate, speaker
from sonant.errors import SonantError, WireError

#: Exit codes: 1 something failed, 2 wrong usage (click's own), 130 interrupted.
FAILED = 1


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sonant", message="%(prog)s %(version)s")
def main() -> None:
    """Sonant: a self-hosted voice identity service that answers the Voice ID API."""


@main.command()
@click.option("--host", help="Address to listen on [default: 127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one [default: 8180].")
@click.option("--quiet", is_flag=True, help="Print nothing but warnings.")
@data_option
def serve(host: str | None, port: int | None, quiet: bool, data: Path | None, config: Path | None) -> None:
    """Serve the API and run jobs."""
    from sonant.cli.serve import serve as run_service

    run_service(load_settings(data, config, **{"gateway.host": host, "gateway.port": port}), quiet=quiet)


@main.command()
@click.option(
    "--audio", type=click.Path(path_type=Path), help="Folder of recordings, one sub-folder a speaker."
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path(".cache/speech"),
    show_default=True,
    help="Where fetched speech is kept.",
)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the demo's data folder here.")
@click.option("--allow-missing", is_flag=True, help="End with success when this system cannot show it all.")
@click.option("--quiet", is_flag=True, help="No progress.")
def demo(audio: Path | None, cache: Path, keep: Path | None, allow_missing: bool, quiet: bool) -> None:
    """Enrol real telephone speakers in a batch job, through the signed API, and recognise them."""
    from sonant.demo.run import demo as run_demo

    run_demo(audio=audio, cache=cache, keep=keep, allow_missing=allow_missing, quiet=quiet)


class _Evaluate(click.Group):
    """`sonant evaluate` measures voices; the name of another measurement comes first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and args[0] in self.commands
        return super().parse_args(ctx, args if named else [str(evaluate.name), *args])


main.add_command(_Evaluate("evaluate", commands=[evaluate, fraudsters, spoofing], help=evaluate.help))
main.add_command(calibrate)
main.add_command(speaker)
main.add_command(session)


@main.command(
    "voice-id",
    context_settings={
        "ignore_unknown_options": True,
        "help_option_names": [],
        "allow_interspersed_args": False,
    },
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def voice_id(arguments: tuple[str, ...]) -> None:
    """`aws voice-id …` against the local service: same options, output and exit codes."""
    from sonant.cli.voice_id import run as run_aws

    sys.exit(run_aws(load_settings(None, None), arguments))


@main.group()
def job() -> None:
    """Watch batch jobs."""


@job.command("watch")
@click.argument("job_id")
@click.option("--domain-id", help="The job's domain; found when not given.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@data_option
def job_watch(
    job_id: str, domain_id: str | None, quiet: bool, data: Path | None, config: Path | None
) -> None:
    """Show a job's progress until it ends; exits 0 when every request succeeded."""
    from sonant.cli.jobs import watch

    sys.exit(watch(load_settings(data, config), job_id, domain_id, quiet=quiet))


def _group(name: str, help_text: str) -> click.Group:
    group = Commands(name, help=help_text)
    main.add_command(group)
    return group


main.add_command(key)
main.add_command(access)
main.add_command(model)
domain = _group(
    "domain", "Bring opt-outs into a domain, restore a deleted one, repeat deletions after a restore."
)
audit = _group("audit", "Read and check the trail of all calls.")
client = _group("client", "Bring Sonant's own operations to boto3 and the AWS CLI.")
manifest_ = _group("manifest", "Find out what a job would make of a manifest.")
object_ = _group("object", "List, read and write objects in local buckets.")


@manifest_.command("check")
@click.argument("manifest")
@click.option("--role", metavar="ARN", help="Read the recordings as this role [default: the first role].")
@click.option("--domain", "domain_id", metavar="ID", help="Count in who is enrolled in this domain.")
@click.option("--overwrite", is_flag=True, help="As a job with ExistingEnrollmentAction OVERWRITE.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the whole report as JSON.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write it as a page.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@data_option
def manifest_check(manifest: str, data: Path | None, config: Path | None, **how: Any) -> None:
    """Listen to every recording of MANIFEST, a file or s3:// URI, and tell what an enrollment job would do.

    Nobody is enrolled. Exits 0 when every request is likely to succeed, 1 when some are not, 2 when the
    manifest is broken.
    """
    from sonant.cli.manifest import check

    sys.exit(check(load_settings(data, config), manifest, **how))


@object_.command("ls")
@click.argument("uri", required=False)
@data_option
def object_ls(uri: str | None, **where: Any) -> None:
    """Buckets, or the objects under s3://bucket/prefix."""
    from sonant.cli import objects

    objects.show_all(load_settings(**where), uri)


@object_.command("get")
@click.argument("uri")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@data_option
def object_get(uri: str, file: Path | None, **where: Any) -> None:
    """Write an object to FILE or standard output; sealed objects are opened."""
    from sonant.cli import objects

    objects.get(load_settings(**where), uri, file)


@object_.command("put")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.argument("uri")
@click.option("--kms-key", help="Seal it under this key.")
@data_option
def object_put(file: Path, uri: str, kms_key: str | None, **where: Any) -> None:
    """Copy FILE to s3://bucket/key; a missing bucket is made. A key ending in / gets the file's name."""
    from sonant.cli import objects

    objects.put(load_settings(**where), file, uri, kms_key)


@domain.command("restore")
@click.argument("domain_id")
@data_option
def domain_restore(domain_id: str, **where: Any) -> None:
    """Take back the deletion of a domain, within 30 days."""
    from sonant.cli import domains

    domains.restore(load_settings(**where), domain_id)


@domain.command("import-opt-outs")
@click.argument("domain_id")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--quiet", is_flag=True, help="No progress bar.")
@data_option
def domain_import_opt_outs(domain_id: str, file: Path, quiet: bool, **where: Any) -> None:
    """Opt out everybody who is OPTED_OUT in FILE, the output of Voice ID's `list-speakers`."""
    from sonant.cli import domains

    domains.import_opt_outs(load_settings(**where), domain_id, file, quiet=quiet)


@domain.command("repeat-deletions")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option(
    "--profile",
    default="default",
    show_default=True,
    help="Whose key of the data folder's credentials file to call with; each account needs its own.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@data_option
def domain_repeat_deletions(files: tuple[Path, ...], profile: str, quiet: bool, **where: Any) -> None:
    """After a restore, delete and opt out again whom events of the time since the backup name.

    FILES are those of the file sink, or hold what a webhook was sent, one document or array a line. Exits 0
    when all of them are forgotten, 1 when some are not. Doing it twice does no harm.
    """
    from sonant.cli.repeated_deletions import repeat

    sys.exit(not repeat(load_settings(**where), files, profile=profile, quiet=quiet))


@client.command("install")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
def client_install(folder: Path | None) -> None:
    """Write the service model of CompareRecording, ExportSpeaker and the like to FOLDER.

    Without FOLDER it goes to ~/.aws/models, where `boto3.client("sonant")` and `aws sonant` find it.
    """
    from sonant.cli import client_model

    client_model.install(folder)


@audit.command("verify")
@click.option("--head", metavar="HASH", help="A hash noted earlier, which must be in the chain.")
@data_option
def audit_verify(head: str | None, **where: Any) -> None:
    """Check the whole chain; exits 1 and says where it breaks."""
    from sonant.cli import audit as trail

    sys.exit(trail.verify(load_settings(**where), head))


@audit.command("show")
@click.option("--since", metavar="TIME", help="Not before this time, ISO 8601, UTC unless it says otherwise.")
@click.option("--operation", help="Only calls of this operation.")
@click.option("--principal", help="Only calls of this ARN or access key id, or part of either.")
@click.option("--json", "as_json", is_flag=True, help="Whole records, one a line.")
@data_option
def audit_show(
    since: str | None, operation: str | None, principal: str | None, as_json: bool, **where: Any
) -> None:
    """Print calls, oldest first."""
    from sonant.cli import audit as trail

    trail.show(load_settings(**where), since, operation, principal, as_json=as_json)


@main.command()
@click.option("--supervised", metavar="OWNER", hidden=True)
@click.option(
    "--heartbeat",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Touch this file about once a second; if it is two minutes old, the worker hangs.",
)
@data_option
def worker(supervised: str | None, heartbeat: Path | None, data: Path | None, config: Path | None) -> None:
    """Run jobs without serving the API (`sonant serve` has a worker of its own)."""
    import secrets

    from sonant.cli import serve as service

    if supervised is not None:
        service.run_supervised(supervised)
    else:
        owner = f"worker-{secrets.token_hex(8)}"
        service.work(load_settings(data, config), owner, heartbeat=heartbeat)


@main.command()
@data_option
def migrate(data: Path | None, config: Path | None) -> None:
    """Bring the database to this release's tables; needed before anything else uses PostgreSQL."""
    from sonant.assembly.installation import migrate as bring_up

    bring_up(load_settings(data, config))
    click.echo("the database is up to date")


_key_file = click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that holds the passphrase [default: $SONANT_BACKUP_PASSPHRASE, else asked for].",
)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@_key_file
@data_option
def backup(file: Path, key_file: Path | None, data: Path | None, config: Path | None) -> None:
    """Write a sealed backup of database, keys, models and audit trail; the service may run."""
    from sonant.cli.backup import back_up

    back_up(load_settings(data, config), file, key_file)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only read the backup to its end.")
@_key_file
@data_option
def restore(file: Path, check: bool, key_file: Path | None, data: Path | None, config: Path | None) -> None:
    """Make a new installation from a backup, on SQLite or PostgreSQL, whichever the settings name."""
    from sonant.cli.backup import put_back

    put_back(load_settings(data, config), file, key_file, only_check=check)


@main.command()
@data_option
def doctor(data: Path | None, config: Path | None) -> None:
    """Check settings, models, store, keys and audio; say what to do about what is wrong."""
    from sonant.cli.doctor import doctor as examine

    sys.exit(examine(lambda: load_settings(data, config)))


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(f"sonant {__version__}")


def run() -> None:
    """The entry point: whatever goes wrong ends as one sentence on standard error."""
    # Before anything imports numpy: the service scales by processes, and threads of a numerical library
    # would only take each other's cores.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.umask(0o077)  # whatever a command writes is its owner's alone, also in a folder that others may enter
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        main(standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as fault:
        fault.show()
        sys.exit(fault.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except WireError as fault:
        _end(f"{fault.code}: {fault.message or ''}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read it has read enough
        sys.exit(FAILED)
    except (SonantError, OSError) as fault:
        _end(str(fault))
    except Exception as fault:
        sentence = database_fault(fault)
        if sentence is None:
            raise
        _end(sentence)


def _end(sentence: str) -> None:
    click.echo(f"sonant: {sentence}", err=True)
    sys.exit(FAILED)
