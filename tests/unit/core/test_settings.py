"""Settings: where they come from, which wins, and what is said about a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.settings.loading import load, names


def test_defaults_are_those_of_an_embedded_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environment={})
    assert settings == Settings()
    assert (settings.wire.host, settings.wire.port) == ("127.0.0.1", 8180)
    assert (settings.region, settings.account, settings.data) == ("us-east-1", "0" * 12, Path("sonant-data"))
    assert settings.embedded


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "sonant.toml"
    file.write_text('region = "eu-west-2"\n[quotas]\ndomains_per_account = 5\nspeakers_per_domain = 6\n')
    environment = {"SONANT_QUOTAS_DOMAINS_PER_ACCOUNT": "7", "SONANT_WIRE_PORT": "9000"}
    settings = load(file=file, environment=environment, flags={"wire.port": 9001, "region": None})
    assert settings.region == "eu-west-2"
    assert settings.quotas.speakers_per_domain == 6
    assert settings.quotas.domains_per_account == 7
    assert settings.wire.port == 9001


def test_sonant_toml_of_the_current_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sonant.toml").write_text("biometric_consent = false\n")
    monkeypatch.chdir(tmp_path)
    assert load(environment={}).biometric_consent is False


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour = 1", "unknown setting colour"),
        ("[quotas]\nfoo = 1", "unknown setting quotas.foo"),
        ("quotas = 3", r"\[quotas\] must be a table"),
        ("[wire]\nport = true", "wire.port is True, must be a whole number"),
        ("[wire]\nport = -1", "wire.port is -1"),
        ("[wire]\nport = 1.5", "wire.port is 1.5"),
        ("[wire]\nsignature_skew_s = nan", "signature_skew_s is nan"),
        ('[audio]\nkeep = "maybe"', "must be true or false"),
        ('account = "12"', "12 digits"),
        ('engine = "cloud"', "engine is 'cloud', must be one of: local, ray"),
        ("= 3", "cannot be read"),
    ],
)
def test_a_bad_setting_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "sonant.toml"
    file.write_text(text)
    with pytest.raises(SetupError, match=told):
        load(file=file, environment={})


def test_a_bad_variable_is_refused_by_its_own_name() -> None:
    with pytest.raises(SetupError, match="SONANT_WIRE_PORT is 'http'"):
        load(environment={"SONANT_WIRE_PORT": "http"})


def test_a_missing_settings_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="does not exist"):
        load(environment={"SONANT_CONFIG": str(tmp_path / "none.toml")})


def test_every_setting_can_be_named() -> None:
    listed = dict(names())
    assert listed["quotas.speakers_per_domain"] == 100_000
    assert listed["region"] == "us-east-1"
    assert "quotas" not in listed
