"""Signed clients of the service that serves a data folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sonant.cli.credentials import read_credentials
from sonant.errors import SetupError

if TYPE_CHECKING:
    from sonant.settings import Settings

#: A file in the data folder that holds the URL at which the service of the folder listens.
ENDPOINT_FILE = "endpoint"
#: botocore's variables without the user's own profile and ~/.aws/config, which are for AWS: a missing profile
#: would be an error. Name -> (key of the file, environment variable, default, conversion).
_NO_AWS_SETUP = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}


def service_url(settings: Settings) -> str:
    """Give the service's URL: the one it noted in its data folder, else the one of the settings."""
    host = f"[{settings.gateway.host}]" if ":" in settings.gateway.host else settings.gateway.host
    noted = settings.data / ENDPOINT_FILE
    if settings.gateway.url:
        return settings.gateway.url
    scheme = "https" if settings.gateway.tls_certificate else "http"
    return (
        noted.read_text("utf-8").strip() if noted.is_file() else f"{scheme}://{host}:{settings.gateway.port}"
    )


def client(
    settings: Settings,
    service: str = "voice-id",
    endpoint_url: str | None = None,
    *,
    profile: str | None = None,
) -> Any:
    """Make a botocore client of the service of a data folder: of `voice-id`, or of our own `sonant`.

    Calls are signed with the access key of `profile`; by default the one that AWS_PROFILE names, if the data
    folder has it. Raises SetupError when there is no such key.
    """
    import botocore.session
    from botocore.config import Config

    from sonant.gateway.models import DATA_PATH

    key_id, secret = read_credentials(settings, profile)
    session = botocore.session.Session(session_vars=_NO_AWS_SETUP)
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
def service_errors() -> Iterator[None]:
    """Turn what a client raises into a SetupError of one sentence."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ParamValidationError
    from botocore.exceptions import ConnectionError as NoConnection

    try:
        yield
    except ParamValidationError as fault:
        raise SetupError(" ".join(str(fault).split())) from None
    except (HTTPClientError, NoConnection) as fault:
        raise SetupError(f"{fault}; is `sonant serve` running?") from None
    except (BotoCoreError, ClientError) as fault:
        raise SetupError(str(fault)) from None
