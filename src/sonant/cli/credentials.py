"""Access keys in the data folder's two credentials files, which AWS tools read.

credentials                  [default], the application's, and those that are added
credentials.administrator    [administrator]; installations of earlier releases have no such file
"""

from __future__ import annotations

import configparser
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sonant.errors import SetupError

if TYPE_CHECKING:
    from sonant.assembly.installation import Store
    from sonant.settings import Settings


#: The profiles of the first access keys.
DEFAULT_PROFILE, ADMINISTRATOR_PROFILE = "default", "administrator"
#: Names of the files in the data folder.
CREDENTIALS, ADMINISTRATOR = "credentials", "credentials.administrator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The profile that commands sign with, and the file that holds it."""

    name: str
    file: Path


def read_credentials(settings: Settings, profile: str | None = None) -> tuple[str, str]:
    """Read a profile's access key: (id, secret). Raises SetupError when there is none.

    Without `profile` it is the one that AWS_PROFILE names, see `chosen_profile`.
    """
    path, name = settings.data / CREDENTIALS, profile or DEFAULT_PROFILE
    try:
        chosen = _chosen(settings, profile)
        path, name = chosen.file, chosen.name
        section = _parsed(path)[name]
        return section["aws_access_key_id"], section["aws_secret_access_key"]
    except OSError:
        raise SetupError(
            f"{path} cannot be read; `sonant serve` makes it at its first start, later "
            "`sonant access create --profile default` does"
        ) from None
    except (configparser.Error, KeyError):
        raise SetupError(f"{path} is not a credentials file with a profile [{name}]") from None


def chosen_profile(settings: Settings) -> Profile:
    """Choose the profile that commands sign with: that of AWS_PROFILE if a file has it, else the
    administrator's, else `default`. Raises OSError and configparser.Error for files that cannot be read.

    Whoever may read the data folder has its keys, which are worth more than the administrator's rights. A
    profile that the files lack is one of the user's own, for AWS, and must not apply here.
    """
    return _chosen(settings, None)


def profiles_in(path: Path) -> dict[str, str]:
    """Return the ids of the access keys in a credentials file by profile; none of a file that is not there.

    Raises SetupError for a file that cannot be read.
    """
    if not path.exists():
        return {}
    try:
        parser = _parsed(path)
    except (OSError, configparser.Error) as fault:
        raise SetupError(f"{path} cannot be read: {' '.join(str(fault).split())}") from None
    return {
        name: parser[name]["aws_access_key_id"]
        for name in parser.sections()
        if "aws_access_key_id" in parser[name]
    }


def _chosen(settings: Settings, profile: str | None) -> Profile:
    files = {
        path: _parsed(path)
        for path in (settings.data / CREDENTIALS, settings.data / ADMINISTRATOR)
        if path.exists()
    }
    wanted = [profile] if profile else [os.environ.get("AWS_PROFILE", ""), ADMINISTRATOR_PROFILE]
    for name in wanted:
        for path, parser in files.items():
            if parser.has_section(name):
                return Profile(name=name, file=path)
    return Profile(name=profile or DEFAULT_PROFILE, file=settings.data / CREDENTIALS)


def _parsed(path: Path) -> configparser.ConfigParser:
    """Parse a credentials file. Raises OSError and configparser.Error."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text("utf-8"))
    return parser


def add_profile(store: Store, profile: str, key_id: str, secret: str) -> None:
    """Write an access key into the file under a profile's name; other profiles stay as they are."""
    from sonant.assembly.installation import credentials_file, write_private

    path = credentials_file(store.settings)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, "utf-8")
    parser[profile] = {
        "aws_access_key_id": key_id,
        "aws_secret_access_key": secret,
        "region": store.settings.region,
    }
    text = io.StringIO()
    parser.write(text)
    write_private(path, text.getvalue())
