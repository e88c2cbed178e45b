"""What all commands share: settings from flags, tables, and a signed client of the local service."""

from __future__ import annotations

import configparser
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from sonant.cli.serve import ENDPOINT_FILE
from sonant.errors import SetupError
from sonant.settings import Settings, loading

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """Lists subcommands in the order in which a newcomer meets them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)


account_option = click.option("--account", help="Account of 12 digits [default: the service's first].")


def data_option(command: F) -> F:
    """`--data` and `--config`, as every command takes them."""
    command = click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Data folder [default: $SONANT_DATA or ./sonant-data].",
    )(command)
    return click.option(
        "--config", type=click.Path(path_type=Path), help="Settings file [default: ./sonant.toml if there]."
    )(command)


def load_settings(data: Path | None, config: Path | None, **flags: Any) -> Settings:
    return loading.load(file=config, flags={"data": data, **flags})


def table(rows: Iterable[Sequence[object]], headers: Sequence[str]) -> str:
    """Rows as text in columns."""
    lines = [list(headers), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def credentials(settings: Settings, profile: str = "default") -> tuple[str, str]:
    """An access key in the data folder's credentials file. Raises SetupError when there is none."""
    path = settings.data / "credentials"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text("utf-8"))
        return parser[profile]["aws_access_key_id"], parser[profile]["aws_secret_access_key"]
    except OSError:
        raise SetupError(
            f"{path} cannot be read; `sonant serve` makes it at its first start, later "
            "`sonant access create --profile default` does"
        ) from None
    except (configparser.Error, KeyError):
        raise SetupError(f"{path} is not a credentials file with a profile [{profile}]") from None


def service_url(settings: Settings) -> str:
    """Where the service of this data folder listens: as it noted down itself, else as the settings say."""
    host = f"[{settings.gateway.host}]" if ":" in settings.gateway.host else settings.gateway.host
    noted = settings.data / ENDPOINT_FILE
    return noted.read_text("utf-8").strip() if noted.is_file() else f"http://{host}:{settings.gateway.port}"


def client(
    settings: Settings,
    service: str = "voice-id",
    endpoint_url: str | None = None,
    *,
    profile: str = "default",
) -> Any:
    """A botocore client of the service that serves this data folder (`voice-id`, or our own `sonant`)."""
    import botocore.session
    from botocore.config import Config

    from sonant.gateway.models import DATA_PATH

    key_id, secret = credentials(settings, profile)
    session = botocore.session.Session()
    session.set_config_variable("data_path", str(DATA_PATH))
    return session.create_client(
        service,
        region_name=settings.region,
        endpoint_url=endpoint_url or service_url(settings),
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=5,
            read_timeout=120,
            proxies={},
        ),
    )


@contextmanager
def refusals_told() -> Iterator[None]:
    """What a client of a service raises becomes one sentence, a SetupError."""
    try:
        yield
    except Exception as fault:
        if type(fault).__module__.startswith("botocore."):
            raise SetupError(str(fault)) from None
        raise


def database_fault(fault: Exception) -> str | None:
    """One sentence for a fault of the database, without SQL or values; None for any other fault."""
    from sonant.storage.database.errors import error_text

    return error_text(fault)


def show_progress(quiet: bool) -> bool:
    """Progress is for people: never with --quiet, never into a file or a pipe."""
    return not quiet and sys.stderr.isatty()
