"""The servers, one of each kind a test process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import aws_servers


@pytest.fixture(autouse=True)
def nobody_elses_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own AWS settings take no part, and nothing asks a machine's metadata service."""
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def rclone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rclone")


@pytest.fixture(scope="session")
def rclone_url(rclone_folder: Path) -> Iterator[str]:
    with aws_servers.rclone(rclone_folder) as url:
        yield url


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with aws_servers.moto() as url:
        yield url


@pytest.fixture(scope="session")
def ministack_url() -> Iterator[str]:
    with aws_servers.ministack() as url:
        yield url
