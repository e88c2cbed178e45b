"""Settings: where they come from, which source wins, and what a bad one is answered with."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from sonant.carriers.providers.asterisk import AsteriskSettings
from sonant.errors import SetupError
from sonant.settings import MIB, Gateway, Settings
from sonant.settings.declaration import accepted, convert
from sonant.settings.listing import (
    FORMER_NAMES,
    OTHER_VARIABLES,
    all_settings,
    carrier_settings,
    former_variables,
    groups,
)
from sonant.settings.loading import as_flags, from_flags, load

ALL = list(all_settings().values())
NUMBERS = [one for one in ALL if one.kind in (int, float)]


def written(folder: Path, text: str) -> Path:
    file = folder / "sonant.toml"
    file.write_text(text)
    return file


# --- sources


def test_defaults_are_those_of_an_embedded_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environment={})
    assert settings == Settings()
    assert (settings.gateway.host, settings.gateway.port) == ("127.0.0.1", 8180)
    assert (settings.region, settings.account, settings.data) == ("us-east-1", "0" * 12, Path("sonant-data"))
    assert settings.embedded


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = written(
        tmp_path, 'region = "eu-west-2"\n[quotas]\ndomains_per_account = 5\nspeakers_per_domain = 6\n'
    )
    environment = {"SONANT_QUOTAS_DOMAINS_PER_ACCOUNT": "7", "SONANT_GATEWAY_PORT": "9000"}
    settings = load(file=file, environment=environment, flags={"gateway.port": 9001, "region": None})
    assert settings.region == "eu-west-2"
    assert settings.quotas.speakers_per_domain == 6
    assert settings.quotas.domains_per_account == 7
    assert settings.gateway.port == 9001


def test_secret_files_win_over_the_file_and_not_over_the_environment(tmp_path: Path) -> None:
    file = written(tmp_path, '[metrics]\ntoken = "of the file"\n[s3]\naccess_key_id = "AKFILE"\n')
    secrets = tmp_path / "secrets"
    (secrets / "..data").mkdir(parents=True)  # as Kubernetes mounts a secret
    for name, value in (
        ("SONANT_METRICS_TOKEN", "of the secret\n"),
        ("SONANT_S3_ACCESS_KEY_ID", "AKSECRET"),
        ("SONANT_S3_SECRET_ACCESS_KEY", "two\nlines"),
        ("SONANT_LIVE_TWILIO_TOKEN", "carrier"),
    ):
        (secrets / "..data" / name).write_text(value)
        (secrets / name).symlink_to(Path("..data") / name)
    environment = {"SONANT_SECRETS": str(secrets), "SONANT_S3_ACCESS_KEY_ID": "AKENVIRONMENT"}
    settings = load(file=file, environment=environment)
    assert settings.metrics.token == "of the secret"
    assert settings.s3.access_key_id == "AKENVIRONMENT"
    assert settings.s3.secret_access_key == "two\nlines"
    assert settings.carriers["twilio_token"] == "carrier"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "SONANT_METRIC_TOKEN",
            b"hidden",
            "SONANT_METRIC_TOKEN is not named .* did you mean SONANT_METRICS_TOKEN",
        ),
        ("SONANT_METRICS_TOKEN", b"\xff\xfe", "a file in it is not UTF-8"),
        ("SONANT_METRICS_TOKEN", b"x" * 70_000, "larger than 65536 bytes"),
        ("SONANT_GATEWAY_PORT", b"hidden", "SONANT_GATEWAY_PORT: gateway.port is 'hidden', must be"),
    ],
)
def test_wrong_secret_file_is_refused_by_its_name(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SetupError, match=said):
        load(environment={"SONANT_SECRETS": str(tmp_path)})


def test_credentials_of_systemd_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sonant-keys").write_bytes(b"\xff" * 32)
    (tmp_path / "SONANT_METRICS_TOKEN").write_text("of the secret")
    environment = {"SONANT_SECRETS": f"{tmp_path}/", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(environment=environment).metrics.token == "of the secret"
    (tmp_path / "SONANT_METRIC_TOKEN").write_text("misspelt")
    with pytest.raises(SetupError, match="did you mean SONANT_METRICS_TOKEN"):
        load(environment=environment)


def test_file_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    deep = written(tmp_path, "data = " + "[" * 5000 + "]" * 5000 + "\n")
    with pytest.raises(SetupError, match="nested too deeply"):
        load(file=deep, environment={})


def test_missing_folder_of_secrets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="SONANT_SECRETS cannot be read: No such file"):
        load(environment={"SONANT_SECRETS": str(tmp_path / "absent")})


def test_sonant_toml_of_the_current_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "biometric_consent = false\n")
    monkeypatch.chdir(tmp_path)
    assert load(environment={}).biometric_consent is False


def test_settings_of_a_carrier_are_read_from_every_source(tmp_path: Path) -> None:
    file = written(tmp_path, '[live]\nasterisk_user = "pbx"\naudiosocket_port = 9092\n')
    environment = {"SONANT_LIVE_TWILIO_TOKEN": "hidden", "SONANT_LIVE_AUDIOSOCKET_PORT": "9093"}
    settings = load(file=file, environment=environment, flags={"live.asterisk_user": "exchange"})
    given = {"asterisk_user": "exchange", "twilio_token": "hidden", "audiosocket_port": 9093}
    assert settings.carriers == given
    assert settings.of_carrier(AsteriskSettings) == AsteriskSettings(asterisk_user="exchange")
    assert "hidden" not in repr(settings)


def test_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"none\.toml does not exist"):
        load(environment={"SONANT_CONFIG": str(tmp_path / "none.toml")})


def test_flags_of_settings_are_read_back(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path,
        database="postgresql://host/name",
        gateway=Gateway(port=9000),
        carriers={"twilio_token": "a token of some length"},
    )
    flags = json.loads(json.dumps(as_flags(settings)))
    assert from_flags(flags) == settings


def test_a_runner_starts_beside_a_settings_file_that_was_broken_since(tmp_path: Path) -> None:
    (tmp_path / "sonant.toml").write_text("gateway.port = [")
    done = subprocess.run(
        [sys.executable, "-m", "sonant", "worker", "--supervised", "local-1"],
        input=json.dumps(as_flags(Settings(data=tmp_path / "absent"))).encode() + b"\n",
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    said = done.stderr.decode()
    assert "absent" in said and "sonant.toml" not in said, "the fault is that of the data folder"


# --- bad values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "unknown setting colour$"),
        ("[quotas]\nfoo = 1", "unknown setting quotas.foo$"),
        ("[quotas]\ndomain_per_account = 1", r"did you mean quotas\.domains_per_account\?$"),
        ("[colours]", "unknown setting colours$"),
        ("quotas = 3", r"\[quotas\] must be a table"),
        ("[region]\nx = 1", "unknown setting region.x"),
        ("[gateway]\nport = true", "gateway.port is True, must be a whole number from 0 to 65,535$"),
        ("[gateway]\nport = -1", "gateway.port is -1, must be a whole number from 0 to 65,535$"),
        ("[gateway]\nport = 65536", "gateway.port is 65536"),
        ("[gateway]\nport = 1.5", "gateway.port is 1.5"),
        ("[gateway]\nport = inf", "gateway.port is inf"),
        ("[gateway]\nport = [1]", r"gateway.port is \[1\]"),
        (
            "[gateway]\nsignature_skew_s = nan",
            "signature_skew_s is nan, must be a number from 1 to 86,400 sec",
        ),
        ("[jobs]\npoll_s = 0", "jobs.poll_s is 0, must be a number from 0.01 to 60 seconds$"),
        ('[audio]\nkeep = "maybe"', "audio.keep is 'maybe', must be true or false$"),
        ('account = "12"', "account is '12', must be 12 digits$"),
        ("region = true", "region is True, must be the name of a Region"),
        ('regions = "eu-west-2, EU"', "regions is 'eu-west-2, EU', must be names of Regions"),
        ("[live]\naudiosocket_port = 65536", "live.audiosocket_port is 65536, must be a whole number"),
        (
            '[live]\ntwilio_tokens = "a"',
            r"did you mean live\.twilio_token\?",
        ),
        ('engine = "cloud"', "engine is 'cloud', must be one of: local, ray$"),
        ('[events]\nsinks = ["file"]', r"events.sinks is \['file'\], must be text$"),
        ("[metrics]\ntoken = [1]", "metrics.token is a secret, must be text$"),
        ("= 3", "cannot be read"),
    ],
)
def test_bad_value_in_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SetupError, match=message) as refused:
        load(file=file, environment={})
    assert str(file) in str(refused.value)


def test_bad_variable_is_refused_by_name_and_source() -> None:
    message = (
        "environment variable SONANT_GATEWAY_PORT: gateway.port is 'http', "
        "must be a whole number from 0 to 65,535"
    )
    with pytest.raises(SetupError, match=f"^{message}$"):
        load(environment={"SONANT_GATEWAY_PORT": "http"})


def test_bad_flag_is_refused_by_name_and_source() -> None:
    with pytest.raises(SetupError, match=r"^command line: gateway\.port is 70000, must be a whole number"):
        load(environment={}, flags={"gateway.port": 70_000})


def test_ray_engine_without_address_is_refused() -> None:
    with pytest.raises(SetupError, match=r"ray\.address is empty, must be host:port"):
        load(environment={"SONANT_ENGINE": "ray"})


# --- names


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("SONANT_GATEWAY_PROT", "; did you mean SONANT_GATEWAY_PORT?"),
        ("SONANT_PORT", ""),
        ("SONANT_LIVE_TWILIO_TOKEM", "; did you mean SONANT_LIVE_TWILIO_TOKEN?"),
        ("SONANT_CONFIGS", "; did you mean SONANT_CONFIG?"),
        ("SONANT_", ""),
    ],
)
def test_unknown_variable_is_refused_with_nearest_name(variable: str, message: str) -> None:
    with pytest.raises(SetupError) as refused:
        load(environment={variable: "1"})
    assert f"unknown environment variable {variable}{message}" in str(refused.value)


def test_other_known_variables_are_ignored() -> None:
    others = {name: "x" for name in OTHER_VARIABLES if name not in ("SONANT_CONFIG", "SONANT_SECRETS")}
    assert load(environment={**others, "PATH": "/bin", "SONANTX": "1"}) == Settings()


def test_variables_of_kubernetes_services_are_ignored() -> None:
    links = {
        "SONANT_SERVICE_HOST": "10.0.0.1",
        "SONANT_SERVICE_PORT": "8180",
        "SONANT_API_SERVICE_PORT_HTTP": "8180",
        "SONANT_PORT": "tcp://10.0.0.1:8180",
        "SONANT_GATEWAY_PORT": "tcp://10.0.0.1:8180",
        "SONANT_PORT_8180_TCP": "tcp://10.0.0.1:8180",
        "SONANT_API_PORT_8180_TCP_ADDR": "10.0.0.1",
    }
    assert load(environment=links) == Settings()


def test_former_group_in_file_serves_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = load(file=written(tmp_path, "[wire]\nport = 9000\n"), environment={})
    assert settings.gateway.port == 9000
    assert "setting wire.port is now called gateway.port" in caplog.text


@pytest.mark.parametrize(("variable", "name"), sorted(former_variables().items()))
def test_former_variable_serves_with_a_warning(
    variable: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    setting = all_settings()[name]
    assert load(environment={variable: str(setting.default)}) == Settings()
    assert f"{variable} is now called {setting.variable}" in caplog.text


def test_former_setting_in_file_serves_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(file=written(tmp_path, "[rates]\nown = 3\n"), environment={})
    assert settings.rates.sonant_operations == 3.0
    assert "setting rates.own is now called rates.sonant_operations" in caplog.text


def test_both_names_in_one_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="keep SONANT_GATEWAY_PORT"):
        load(environment={"SONANT_WIRE_PORT": "1", "SONANT_GATEWAY_PORT": "1"})
    with pytest.raises(SetupError, match=r"gateway\.port is set twice"):
        load(file=written(tmp_path, "[wire]\nport = 1\n[gateway]\nport = 1\n"), environment={})


def test_former_names_are_translated_once() -> None:
    names = {*all_settings(), *groups()}
    assert set(FORMER_NAMES.values()) <= names
    assert not FORMER_NAMES.keys() & names
    assert not former_variables().keys() & {one.variable for one in ALL}


# --- declarations


@pytest.mark.parametrize("setting", ALL, ids=lambda one: one.name)
def test_every_setting_has_a_meaning_and_accepts_its_default(setting) -> None:
    assert setting.declared.meaning.endswith(".")
    assert "|" not in setting.declared.meaning, "a cell of the settings page"
    assert convert(str(setting.default), setting.kind, setting.declared) == setting.default
    assert convert(setting.default, setting.kind, setting.declared) == setting.default


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda one: one.name)
def test_every_number_has_a_range_with_both_ends_accepted(setting) -> None:
    declared = setting.declared
    assert declared.least is not None and declared.most is not None
    assert declared.least < declared.most
    assert declared.least >= 0 or declared.unit == "decibels"
    for bound, beyond in ((declared.least, -1), (declared.most, 1)):
        assert convert(bound, setting.kind, declared) == bound
        with pytest.raises(ValueError):
            convert(bound + beyond, setting.kind, declared)


def test_accepted_values_are_named_with_their_unit() -> None:
    limit = all_settings()["gateway.max_body_bytes"]
    assert accepted(limit.kind, limit.declared) == f"a whole number from 1,024 to {64 * MIB:,} bytes"


def test_every_setting_is_listed_by_its_dotted_name() -> None:
    listed = all_settings()
    assert listed["quotas.speakers_per_domain"].default == 100_000
    assert listed["region"].variable == "SONANT_REGION"
    assert "quotas" not in listed
    flat: dict[str, object] = {}
    for name, value in asdict(Settings()).items():
        if name == "carriers":
            assert value == {}
        elif name in groups():
            flat |= {f"{name}.{inner}": one for inner, one in value.items()}
        else:
            flat[name] = value
    flat |= {name: one.default for name, one in carrier_settings().items()}
    assert flat == {name: one.default for name, one in listed.items()}


def test_settings_of_a_group_are_listed_together() -> None:
    tables = [name.rpartition(".")[0] for name in all_settings()]
    assert [table for table, _ in groupby(tables)] == ["", *groups()]


def test_secrets_are_not_shown() -> None:
    secrets = [one.name for one in ALL if one.declared.secret]
    assert "database" in secrets and "live.asterisk_password" in secrets
    suspects = [one.name for one in ALL if one.name.rpartition(".")[2] in ("pin", "token", "password")]
    assert set(suspects) - set(secrets) == {"pkcs11.token"}, "the label of a token, no secret"
    assert "hidden" not in repr(load(environment={"SONANT_METRICS_TOKEN": "hidden"}))


def test_import_of_settings_is_cheap() -> None:
    asks = (
        "import sys, sonant.settings; print({'numpy', 'sqlalchemy', 'starlette', 'tomllib'} & {*sys.modules})"
    )
    assert subprocess.check_output([sys.executable, "-c", asks], text=True).strip() == "set()"


@pytest.mark.parametrize(
    ("variable", "value", "imported"),
    [("SONANT_LIVE_DOMAIN", "d", False), ("SONANT_LIVE_TWILIO_TOKEN", "a token of some length", True)],
)
def test_carriers_are_imported_only_for_settings_of_theirs(variable: str, value: str, imported: bool) -> None:
    asks = (
        "import sys; from sonant.settings.loading import load; "
        f"load(environment={{{variable!r}: {value!r}}}); print('sonant.carriers.providers' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", asks], text=True).strip() == str(imported)
