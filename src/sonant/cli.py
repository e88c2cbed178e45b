"""The `sonant` command: thin, one function a subcommand. Errors are one sentence and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from sonant import __version__
from sonant.commands.common import data_option, database_fault, load_settings
from sonant.commands.evaluate_spoofing import spoofing
from sonant.commands.evaluation import evaluate
from sonant.errors import SonantError, WireError

#: Exit codes: 1 something failed, 2 wrong usage (click's own), 130 interrupted.
FAILED = 1


class Commands(click.Group):
    """Lists subcommands in the order in which a newcomer meets them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)


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
    from sonant.commands.serve import serve as run_service

    run_service(load_settings(data, config, **{"wire.host": host, "wire.port": port}), quiet=quiet)


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
@click.option("--quiet", is_flag=True, help="No progress.")
def demo(audio: Path | None, cache: Path, keep: Path | None, quiet: bool) -> None:
    """Enrol real telephone speakers in a batch job, through the signed API, and recognise them."""
    from sonant.commands.demo import demo as run_demo

    run_demo(audio=audio, cache=cache, keep=keep, quiet=quiet)


class _Evaluate(click.Group):
    """`sonant evaluate` measures voices; the name of another measurement comes first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and args[0] in self.commands
        return super().parse_args(ctx, args if named else [str(evaluate.name), *args])


main.add_command(_Evaluate("evaluate", commands=[evaluate, spoofing], help=evaluate.help))


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
    from sonant.commands.voice_id import run as run_aws

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
    from sonant.commands.jobs import watch

    sys.exit(watch(load_settings(data, config), job_id, domain_id, quiet=quiet))


def _group(name: str, help_text: str) -> click.Group:
    group = Commands(name, help=help_text)
    main.add_command(group)
    return group


key = _group("key", "Manage the local keys that domains and result files are sealed under.")
access = _group("access", "Manage users, roles, policies and access keys.")
domain = _group("domain", "Bring opt-outs into a domain; restore a deleted one.")
audit = _group("audit", "Read and check the trail of all calls.")
object_ = _group("object", "List, read and write objects in local buckets.")


account_option = click.option("--account", help="Account of 12 digits [default: the service's first].")


@key.command("create")
@click.option("--alias", help="A name for it, such as alias/calls.")
@click.option("--description", default="")
@account_option
@data_option
def key_create(alias: str | None, description: str, account: str | None, **where: Any) -> None:
    """Make a symmetric key."""
    from sonant.commands import keys

    keys.create(load_settings(**where), account, alias, description)


@key.command("list")
@account_option
@data_option
def key_list(account: str | None, **where: Any) -> None:
    """All keys with state and aliases."""
    from sonant.commands import keys

    keys.show_all(load_settings(**where), account)


@key.command("describe")
@click.argument("key_ref", metavar="KEY")
@account_option
@data_option
def key_describe(key_ref: str, account: str | None, **where: Any) -> None:
    """One key, by id, ARN or alias."""
    from sonant.commands import keys

    keys.show(load_settings(**where), account, key_ref)


@key.command("alias")
@click.argument("alias")
@click.argument("key_ref", metavar="KEY", required=False)
@click.option("--delete", is_flag=True, help="Take the alias away; the key stays.")
@account_option
@data_option
def key_alias(alias: str, key_ref: str | None, delete: bool, account: str | None, **where: Any) -> None:
    """Name a key."""
    from sonant.commands import keys

    keys.name(load_settings(**where), account, alias, key_ref, delete=delete)


@key.command("disable")
@click.argument("key_ref", metavar="KEY")
@account_option
@data_option
def key_disable(key_ref: str, account: str | None, **where: Any) -> None:
    """Refuse every use of a key from now on; what it seals cannot be read until it is enabled again."""
    from sonant.commands import keys

    keys.change(load_settings(**where), account, key_ref, "disable")


@key.command("enable")
@click.argument("key_ref", metavar="KEY")
@account_option
@data_option
def key_enable(key_ref: str, account: str | None, **where: Any) -> None:
    """Allow the use of a disabled key again."""
    from sonant.commands import keys

    keys.change(load_settings(**where), account, key_ref, "enable")


@key.command("schedule-deletion")
@click.argument("key_ref", metavar="KEY")
@click.option("--days", type=int, default=30, show_default=True, help="7 to 30.")
@account_option
@data_option
def key_schedule_deletion(key_ref: str, days: int, account: str | None, **where: Any) -> None:
    """Disable a key now and destroy it in some days. What it seals is lost for good then."""
    from sonant.commands import keys

    keys.schedule_deletion(load_settings(**where), account, key_ref, days)


@key.command("cancel-deletion")
@click.argument("key_ref", metavar="KEY")
@account_option
@data_option
def key_cancel_deletion(key_ref: str, account: str | None, **where: Any) -> None:
    """Keep a key that is pending deletion; it stays disabled."""
    from sonant.commands import keys

    keys.change(load_settings(**where), account, key_ref, "cancel_deletion")


def _principal_commands(kind: str) -> None:
    """The same four commands for users and for roles."""
    group = Commands(kind, help=f"Manage {kind}s and their policies.")
    access.add_command(group)

    @group.command("put", help=f"Make a {kind}, or replace its policies; without one it may do nothing.")
    @click.argument("name")
    @click.option(
        "--policy", "policies", multiple=True, type=click.Path(path_type=Path), help="IAM JSON file."
    )
    @click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="For aws:PrincipalTag/KEY.")
    @account_option
    @data_option
    def put(
        name: str, policies: tuple[Path, ...], tags: tuple[str, ...], account: str | None, **where: Any
    ) -> None:
        from sonant.commands import access_keys

        access_keys.put_principal(load_settings(**where), kind, name, account, policies, tags)

    @group.command("list", help=f"All {kind}s.")
    @data_option
    def show_all(**where: Any) -> None:
        from sonant.commands import access_keys

        access_keys.show_principals(load_settings(**where), kind)

    @group.command("policies", help=f"The policies of a {kind}.")
    @click.argument("name")
    @account_option
    @data_option
    def policies_of(name: str, account: str | None, **where: Any) -> None:
        from sonant.commands import access_keys

        access_keys.show_policies(load_settings(**where), kind, name, account)

    @group.command("delete", help=f"Remove a {kind} and its access keys.")
    @click.argument("name")
    @account_option
    @data_option
    def remove(name: str, account: str | None, **where: Any) -> None:
        from sonant.commands import access_keys

        access_keys.delete_principal(load_settings(**where), kind, name, account)


_principal_commands("user")
_principal_commands("role")


@access.command("create")
@click.option("--user", help="Whose key [default: the first user].")
@account_option
@click.option("--profile", help="Write it into the data folder's credentials file under this profile.")
@data_option
def access_create(user: str | None, account: str | None, profile: str | None, **where: Any) -> None:
    """Make another access key; its secret is shown this once."""
    from sonant.commands import access_keys

    access_keys.create(load_settings(**where), user, account, profile)


@access.command("assume-role")
@click.argument("role_arn")
@click.option(
    "--duration", "life_s", type=int, default=3600, show_default=True, help="Seconds, 900 to 43200."
)
@data_option
def access_assume_role(role_arn: str, life_s: int, **where: Any) -> None:
    """Print temporary credentials of a role, to be taken in with `eval "$(...)"`."""
    from sonant.commands import access_keys

    access_keys.assume_role(load_settings(**where), role_arn, life_s)


@access.command("simulate")
@click.argument("name")
@click.argument("action")
@click.argument("resource")
@click.option("--role", is_flag=True, help="NAME is a role's; else a user's.")
@click.option("--context", "facts", multiple=True, metavar="KEY=VALUE", help="Such as aws:SourceIp=10.0.0.1.")
@data_option
def access_simulate(
    name: str, action: str, resource: str, role: bool, facts: tuple[str, ...], **where: Any
) -> None:
    """Tell whether NAME may do ACTION on RESOURCE, and which statement decides; exits 0 when it may."""
    from sonant.commands import access_keys

    kind = "role" if role else "user"
    sys.exit(access_keys.simulate(load_settings(**where), kind, name, action, resource, facts))


@access.command("delete")
@click.argument("access_key_id")
@data_option
def access_delete(access_key_id: str, **where: Any) -> None:
    """Remove an access key."""
    from sonant.commands import access_keys

    access_keys.delete(load_settings(**where), access_key_id)


@access.command("list")
@data_option
def access_list(**where: Any) -> None:
    """All access keys, without secrets."""
    from sonant.commands import access_keys

    access_keys.show_all(load_settings(**where))


@access.command("disable")
@click.argument("access_key_id")
@data_option
def access_disable(access_key_id: str, **where: Any) -> None:
    """Refuse an access key from now on."""
    from sonant.commands import access_keys

    access_keys.set_active(load_settings(**where), access_key_id, active=False)


@access.command("enable")
@click.argument("access_key_id")
@data_option
def access_enable(access_key_id: str, **where: Any) -> None:
    """Accept a disabled access key again."""
    from sonant.commands import access_keys

    access_keys.set_active(load_settings(**where), access_key_id, active=True)


@object_.command("ls")
@click.argument("uri", required=False)
@data_option
def object_ls(uri: str | None, **where: Any) -> None:
    """Buckets, or the objects under s3://bucket/prefix."""
    from sonant.commands import objects

    objects.show_all(load_settings(**where), uri)


@object_.command("get")
@click.argument("uri")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@data_option
def object_get(uri: str, file: Path | None, **where: Any) -> None:
    """Write an object to FILE or standard output; sealed objects are opened."""
    from sonant.commands import objects

    objects.get(load_settings(**where), uri, file)


@object_.command("put")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.argument("uri")
@click.option("--kms-key", help="Seal it under this key.")
@data_option
def object_put(file: Path, uri: str, kms_key: str | None, **where: Any) -> None:
    """Copy FILE to s3://bucket/key; a missing bucket is made. A key ending in / gets the file's name."""
    from sonant.commands import objects

    objects.put(load_settings(**where), file, uri, kms_key)


@domain.command("restore")
@click.argument("domain_id")
@data_option
def domain_restore(domain_id: str, **where: Any) -> None:
    """Take back the deletion of a domain, within 30 days."""
    from sonant.commands import domains

    domains.restore(load_settings(**where), domain_id)


@domain.command("import-opt-outs")
@click.argument("domain_id")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--quiet", is_flag=True, help="No progress bar.")
@data_option
def domain_import_opt_outs(domain_id: str, file: Path, quiet: bool, **where: Any) -> None:
    """Opt out everybody who is OPTED_OUT in FILE, the output of Voice ID's `list-speakers`."""
    from sonant.commands import domains

    domains.import_opt_outs(load_settings(**where), domain_id, file, quiet=quiet)


@audit.command("verify")
@click.option("--head", metavar="HASH", help="A hash noted earlier, which must be in the chain.")
@data_option
def audit_verify(head: str | None, **where: Any) -> None:
    """Check the whole chain; exits 1 and says where it breaks."""
    from sonant.commands import audit as trail

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
    from sonant.commands import audit as trail

    trail.show(load_settings(**where), since, operation, principal, as_json=as_json)


@main.command()
@click.option("--supervised", metavar="OWNER", hidden=True)
@data_option
def worker(supervised: str | None, data: Path | None, config: Path | None) -> None:
    """Run jobs without serving the API (`sonant serve` has a worker of its own)."""
    import secrets

    from sonant.commands import serve as service

    if supervised is not None:
        service.run_supervised(supervised)
    else:
        service.work(load_settings(data, config), f"worker-{secrets.token_hex(8)}")


@main.command()
@data_option
def doctor(data: Path | None, config: Path | None) -> None:
    """Check settings, models, store, keys and audio; say what to do about what is wrong."""
    from sonant.commands.doctor import doctor as examine

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
