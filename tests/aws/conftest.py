"""Fixtures: one server of each kind for a test process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aws_servers
import pytest
from calls_bucket import MANIFEST, enrolled, furnish
from job_service import comparable, environment, serving


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


@pytest.fixture(scope="session")
def recordings(make_call: Any) -> dict[str, bytes]:
    return {
        "english.wav": make_call("english", 1, net_speech_s=9),
        "french.wav": make_call("french", 1, net_speech_s=9),
        "short.wav": make_call("italian", 3, net_speech_s=3, duration_s=8, channels=1),
        "jobs/manifest.json": MANIFEST,
    }


@pytest.fixture(scope="session")
def local_result(tmp_path_factory: pytest.TempPathFactory, recordings: dict[str, bytes]) -> Any:
    data = tmp_path_factory.mktemp("local") / "data"
    data.mkdir(mode=0o700)
    furnish(data / "buckets", recordings)
    account = "000000000000"
    with serving(data, environment(ACCOUNT=account)) as (voice_id, _):
        _, name = enrolled(voice_id, account, "alias/sonant")
    return comparable((data / "buckets" / "results" / name).read_bytes())
