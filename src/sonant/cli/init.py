"""`sonant init`: makes an installation and its settings file, from answers on a terminal or from flags."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from sonant.assembly import installation
from sonant.assembly.installation import key_wrapping
from sonant.assembly.installation.folders import traces
from sonant.cli.context import CliContext, Command, pass_cli
from sonant.errors import SetupError, SonantError
from sonant.gateway.tls import configured_certificate
from sonant.settings import Settings, loading
from sonant.settings.listing import core_settings

DEFAULT_FILE = Path("sonant.toml")
#: What is asked on a terminal when no flag gives it, in this order: flag, setting, question.
_QUESTIONS = (
    ("region", "region", "Region of ARNs and signatures"),
    ("account", "account", "Account, of 12 digits"),
    ("host", "gateway.host", "Address to listen on"),
    ("port", "gateway.port", "Port"),
)


@click.command(cls=Command)
@click.option("--region", help="Region of ARNs and signatures [default: us-east-1].")
@click.option("--account", help="Account of 12 digits [default: 000000000000].")
@click.option("--host", help="Address to listen on [default: 127.0.0.1].")
@click.option("--port", type=int, help="Port [default: 8180].")
@click.option(
    "--tls-certificate", type=click.Path(path_type=Path), help="File of the certificate chain (PEM)."
)
@click.option("--tls-key", type=click.Path(path_type=Path), help="File of the certificate's key (PEM).")
@click.option("--behind-proxy", is_flag=True, help="A proxy in front has TLS: serve plain HTTP to it.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Encrypt key files under the passphrase in this file, which every later command and start needs.",
)
@pass_cli
def init(cli: CliContext, /, behind_proxy: bool, **given: Any) -> None:
    """Make an installation and its settings file; nothing that exists is changed.

    On a terminal it asks for what no flag gives. --config names the file to write [default: ./sonant.toml],
    --data the data folder.
    """
    file = (cli.config or DEFAULT_FILE).absolute()
    if file.exists():
        raise SetupError(f"{file} exists already; name another with --config, or edit it")
    values: dict[str, Any] = {"data": str((cli.data or Settings().data).absolute())}
    values |= answers(given, ask=sys.stdin.isatty() and not cli.quiet)
    for flag, setting in (
        ("tls_certificate", "gateway.tls_certificate"),
        ("tls_key", "gateway.tls_key"),
        ("passphrase_file", "key_wrapping.passphrase_file"),
    ):
        if given[flag] is not None:
            values[setting] = str(given[flag].absolute())
    if behind_proxy:
        values["gateway.plain_http"] = True
    try:
        installation.write_private(file, settings_text(values))
    except OSError as fault:
        raise SetupError(f"{file} cannot be written: {fault.strerror}") from None
    try:
        settings = loading.load(file=file, environment={})
        made = _make(settings)
    except (SonantError, OSError):
        file.unlink()  # it describes nothing
        raise
    paths = {
        "Settings": str(file),
        "Data": values["data"],
        "AdministratorCredentials": str(installation.administrator_file(settings)),
        "ApplicationCredentials": str(installation.credentials_file(settings)),
    }
    cli.show(
        {
            **paths,
            "AdministratorAccessKey": made.administrator,
            "ApplicationAccessKey": made.application,
            "RoleArn": installation.role_arn(settings),
            "KeyAlias": installation.DEFAULT_ALIAS,
        },
        (
            f"settings         {file}",
            f"data             {values['data']}",
            f"administrator    access key {made.administrator}, in {paths['AdministratorCredentials']}",
            f"application      access key {made.application}, in {paths['ApplicationCredentials']}",
            f"role for jobs    {installation.role_arn(settings)}",
            f"key for domains  {installation.DEFAULT_ALIAS}",
            "next:            move the administrator's file to a safe place of its own, then",
            f"                 sonant serve --config {file}",
            *_owner_lines(file, values["data"]),
        ),
    )


def _owner_lines(file: Path, data: str) -> tuple[str, ...]:
    """Say what root has to do before a service of another user can read what root has made."""
    if os.geteuid() != 0:
        return ()
    return (f"                 (as another user than root: first chown -R USER: {file} {data})",)


def settings_text(values: Mapping[str, Any]) -> str:
    """Write settings by dotted name as a TOML file, tables after the names without one."""
    tables: dict[str, list[str]] = {"": []}
    for name, value in values.items():
        table, _, last = name.rpartition(".")
        tables.setdefault(table, []).append(f"{last} = {_toml(value)}")
    parts = ["\n".join(tables.pop(""))]
    parts += [f"[{table}]\n" + "\n".join(lines) for table, lines in tables.items()]
    head = "# Settings of Sonant, made by `sonant init`; docs/settings.md lists all of them."
    return "\n\n".join([head, *filter(None, parts)]) + "\n"


def _toml(value: object) -> str:
    # A string of JSON is one of TOML, but for DEL, which TOML wants escaped, and for pairs of surrogates.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def answers(given: Mapping[str, Any], *, ask: bool) -> dict[str, Any]:
    """Give the settings of _QUESTIONS: flags, else answers, else nothing where the default stands."""
    found: dict[str, Any] = {}
    for flag, name, question in _QUESTIONS:
        setting = core_settings()[name]
        value = given[flag]
        if value is None and ask:
            value = click.prompt(question, default=setting.default, type=setting.kind, err=True)
        if value is not None and value != setting.default:
            found[name] = value
    return found


def _make(settings: Settings) -> installation.AccessKeyPair:
    """Make the installation. Raises SetupError for a folder or a database that is in use."""
    found = traces(settings)
    if found:
        raise SetupError(f"{found[0]} shows that {settings.data} is in use: choose another with --data")
    configured_certificate(settings.gateway)
    with closing((store := installation.open_store(settings, create=True)).database):
        made = installation.first_start(store)
        if made is None:
            raise SetupError("the database is that of another installation: name another in `database`")
        if settings.audit.enabled:
            # Where the trail of an installation in use should be, and is not, its loss is reported.
            (settings.data / "audit").mkdir(mode=0o700, exist_ok=True)
        if settings.key_wrapping.passphrase_file:
            key_wrapping.wrap_keys(store, "passphrase")
    return made
