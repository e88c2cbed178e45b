"""Access keys in the data folder's `credentials` file, which AWS tools read."""

from __future__ import annotations

import configparser
import io
import os
from typing import TYPE_CHECKING

from sonant.errors import SetupError

if TYPE_CHECKING:
    from sonant.assembly.installation import Store
    from sonant.settings import Settings


#: The profile of the first access key.
DEFAULT_PROFILE = "default"


def read_credentials(settings: Settings, profile: str | None = None) -> tuple[str, str]:
    """Read a profile's access key: (id, secret). Raises SetupError when there is none.

    Without `profile` it is the one that AWS_PROFILE names, see `chosen_profile`.
    """
    path = settings.data / "credentials"
    parser = configparser.ConfigParser(interpolation=None)
    name = profile or DEFAULT_PROFILE
    try:
        parser.read_string(path.read_text("utf-8"))
        name = profile or _chosen(parser)
        return parser[name]["aws_access_key_id"], parser[name]["aws_secret_access_key"]
    except OSError:
        raise SetupError(
            f"{path} cannot be read; `sonant serve` makes it at its first start, later "
            "`sonant access create --profile default` does"
        ) from None
    except (configparser.Error, KeyError):
        raise SetupError(f"{path} is not a credentials file with a profile [{name}]") from None


def chosen_profile(settings: Settings) -> str:
    """Name the profile that commands sign with: that of AWS_PROFILE if the file has it, else `default`.

    A profile that the file lacks is one of the user's own, for AWS, and must not apply here.
    """
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(settings.data / "credentials", "utf-8")
    return _chosen(parser)


def _chosen(parser: configparser.ConfigParser) -> str:
    asked = os.environ.get("AWS_PROFILE", "")
    return asked if parser.has_section(asked) else DEFAULT_PROFILE


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
