"""Fixtures: one SoftHSM2 for a test process, and a token for each test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from softhsm import NoToken, SoftHsm, softhsm

CACHE = Path(os.environ.get("SONANT_SPEECH_CACHE") or Path(__file__).parents[2] / ".cache" / "speech")


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    try:
        made = softhsm(tmp_path_factory.mktemp("hsm"), CACHE)
    except NoToken as why:
        pytest.skip(f"no PKCS#11 token: {why}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(made.conf))
        yield made


@pytest.fixture
def token(hsm: SoftHsm) -> str:
    """The label of a new token."""
    label = f"sonant-{secrets.token_hex(4)}"
    hsm.make_token(label)
    return label
