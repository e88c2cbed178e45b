"""The flags that every command shares, and what commands print, ask and show with them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, cast, get_args

import click

from sonant.errors import SetupError

if TYPE_CHECKING:
    from sonant.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

OutputFormat = Literal["text", "json"]

_META_KEY = "sonant.cli.context"


@dataclass(frozen=True, slots=True, kw_only=True)
class CliContext:
    """The values of the common flags, wherever on the command line they stand."""

    data: Path | None = None
    """The data folder; None for that of the environment, the settings file or the default."""
    config: Path | None = None
    """The settings file."""
    output: OutputFormat = "text"
    """The form of results on standard output."""
    output_given: bool = False
    """Whether `output` stands on the command line."""
    quiet: bool = False
    """Whether progress is left out."""
    color: bool = True
    """Whether a terminal may get colours."""

    def settings(self, **flags: Any) -> Settings:
        """Load the settings; `flags` maps dotted names to values. Raises SetupError."""
        from sonant.settings import loading

        return loading.load(file=self.config, flags={"data": self.data, **flags})

    @property
    def as_json(self) -> bool:
        return self.output == "json"

    @property
    def shows_progress(self) -> bool:
        """Whether progress is shown: not with `--quiet`, not into a file or a pipe."""
        return not self.quiet and sys.stderr.isatty()

    def show(self, document: object, text: str | Iterable[str]) -> None:
        """Print a result: `document` as JSON with `--output json`, else `text` or its lines."""
        if self.as_json:
            click.echo(json.dumps(document, indent=2, default=_json_value))
            return
        for line in (text,) if isinstance(text, str) else text:
            click.echo(line)

    def print_text(self, text: str) -> None:
        """Print a part of a result at once; nothing with `--output json`, whose document comes at the end."""
        if not self.as_json:
            click.echo(text)

    def progress_bar(
        self,
        items: Iterable[Any] | None = None,
        *,
        length: int | None = None,
        label: str,
        hidden: bool = False,
    ) -> Any:
        """Make a progress bar on standard error over `items` or up to `length`.

        It is hidden without a terminal and with `--quiet`.
        """
        hidden = hidden or not self.shows_progress
        return click.progressbar(items, length=length, label=label, hidden=hidden, file=sys.stderr)

    def report(self, text: str) -> None:
        """Print a line of progress on standard error, unless `--quiet`."""
        if not self.quiet:
            click.echo(text, err=True)

    def confirm(self, consequence: str, *, yes: bool) -> None:
        """Ask on a terminal whether to go on with what destroys data; `yes` is the answer of `--yes`.

        Raises click.UsageError where there is no terminal to ask on, SetupError when the answer is no.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise click.UsageError(f"{consequence}. Without a terminal to ask on, confirm it with --yes.")
        if not click.confirm(f"{consequence}. Go on?", err=True):
            raise SetupError("not confirmed, nothing was changed")


def current_context() -> CliContext:
    """Give the common flags of the command that runs."""
    context = click.get_current_context()
    known: CliContext = context.meta.setdefault(_META_KEY, CliContext(color=not os.environ.get("NO_COLOR")))
    return known


def _remember(context: click.Context, **values: Any) -> None:
    context.meta[_META_KEY] = replace(current_context(), **values)
    context.color = None if current_context().color else False


def pass_cli(function: Callable[Concatenate[CliContext, P], R]) -> Callable[P, R]:
    """Give a command's function the CliContext as its first argument."""

    @wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> R:
        return function(current_context(), *arguments, **options)

    return called


def _set(name: str, **more: Any) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Make an option's callback that sets a field of the CliContext when the option is given."""

    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            _remember(context, **{name: value}, **more)

    return callback


def _clear_color(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value or not current_context().color:
        _remember(context, color=False)


def _common_options() -> list[click.Option]:
    def option(*names: str, **how: Any) -> click.Option:
        return click.Option(list(names), expose_value=False, **how)

    path = click.Path(path_type=Path)
    return [
        option(
            "--data",
            type=path,
            callback=_set("data"),
            help="Data folder [default: $SONANT_DATA or ./sonant-data].",
        ),
        option(
            "--config",
            type=path,
            callback=_set("config"),
            help="Settings file [default: $SONANT_CONFIG, else ./sonant.toml if there].",
        ),
        option(
            "--output",
            type=click.Choice(get_args(OutputFormat)),
            callback=_set("output", output_given=True),
            help="Form of results on standard output [default: text].",
        ),
        option("--quiet", is_flag=True, callback=_set("quiet"), help="No progress."),
        option(
            "--no-color",
            is_flag=True,
            callback=_clear_color,
            help="No colours, as with $NO_COLOR in the environment.",
        ),
    ]


COMMON_FLAGS = frozenset(name for option in _common_options() for name in option.opts)
"""Names of the common flags."""
COMMON_FLAGS_WITH_VALUE = COMMON_FLAGS - {"--quiet", "--no-color"}


def _add_common(command: click.Command) -> None:
    """Add the common flags, but for names that the command uses otherwise."""
    taken = {name for parameter in command.params for name in parameter.opts}
    command.params += [option for option in _common_options() if not taken & set(option.opts)]


def _write_options(command: click.Command, context: click.Context, formatter: click.HelpFormatter) -> None:
    """Write a command's own options, and below them the common ones."""
    own: list[tuple[str, str]] = []
    common: list[tuple[str, str]] = []
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Argument):
            continue
        record = parameter.get_help_record(context)
        if record is not None:
            shared = COMMON_FLAGS & set(parameter.opts) and not parameter.expose_value
            (common if shared else own).append(record)
    for title, records in (("Options", own), ("Common options", common)):
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class Command(click.Command):
    """A command that takes the common flags."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _add_common(self)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        _write_options(self, context, formatter)


class Group(click.Group):
    """A group that takes the common flags and lists its commands in the order in which they were added."""

    command_class = Command
    group_class = type

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _add_common(self)

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        _write_options(self, context, formatter)
        self.format_commands(context, formatter)


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        _remember(context, output="json")


account_option = click.option("--account", help="Account of 12 digits [default: the service's first].")
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_set_json,
    help="The same as --output json.",
)


def split_output(cli: CliContext, value: str | None) -> tuple[CliContext, str | None]:
    """Tell the two meanings of `--output` apart in a command that had one before the common flag.

    `text` and `json` choose the form of results; any other value is the command's own and comes back.
    """
    if value in get_args(OutputFormat):
        return replace(cli, output=cast(OutputFormat, value), output_given=True), None
    return cli, value


def table(rows: Iterable[Sequence[object]], headers: Sequence[str]) -> str:
    """Write rows as text in columns."""
    lines = [list(headers), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def shown(text: object) -> str:
    """Escape what others wrote for a terminal: control characters of names and messages."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def without_metadata(response: Mapping[str, Any]) -> dict[str, Any]:
    """Give the members of a service's response that the API defines."""
    return {name: value for name, value in response.items() if name != "ResponseMetadata"}


def _json_value(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
