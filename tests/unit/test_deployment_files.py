"""The files under `deploy/`, checked without a container engine or a cluster."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator
from rendered_chart import CHART, DEPLOY, MINIMAL, VALUES, VARIANTS, merged, rendered, workloads
from waiting import PATIENCE_S

from sonant.cli.main import COMMANDS
from sonant.settings.listing import all_settings, former_variables


def files() -> list[Path]:
    return sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parts)


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_variable_in_a_file_is_one_of_a_setting(path: Path) -> None:
    known = {setting.variable for setting in all_settings().values()} | {"SONANT_SECRETS"}
    if path.name == "values.schema.json":
        known |= former_variables().keys()  # which the chart does not accept
    named = set(re.findall(r"\bSONANT_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
    assert named <= known


# --- image --------------------------------------------------------------------------------------------


def test_image_runs_unprivileged_from_a_pinned_base() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    last = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert [line for line in last if line.startswith("USER ")] == ["USER 10001:10001"]
    assert any(line.startswith("HEALTHCHECK ") for line in last)
    assert not any("pip" in line or "apt" in line for line in last)
    assert re.search(r"^ARG PYTHON=\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", "\n".join(lines), re.MULTILINE)


def test_image_installs_what_is_locked_from_wheels_and_checks_hashes() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install .*?(?=&&|\n|$)", text)
    assert len(installs) == 3
    for install in installs:
        locked = "--require-hashes" in install and "--only-binary=:all:" in install and "-r locks/" in install
        built_here = "--no-index /wheels/" in install
        assert "--no-deps" in install and (locked or built_here), install


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_images_of_others_are_pinned_by_digest(path: Path) -> None:
    if path.name == "Dockerfile":
        named = [line.split()[1] for line in path.read_text().splitlines() if line.startswith("FROM ")]
        assert named == ["python:${PYTHON}"] * 2
    elif path.name == "compose.yaml":
        services = yaml.safe_load(path.read_text())["services"].values()
        images = {service["image"] for service in services} - {"sonant"}
        assert images and all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)


# --- compose ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def test_compose_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, DEPLOY / "compose.yaml"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_publishes_ports_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_passes_secrets_as_files_only(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            assert value.startswith("/run/secrets") or not re.search("SECRET|PASSWORD", name)
        used = [one if isinstance(one, str) else one["source"] for one in service.get("secrets", ())]
        assert set(used) <= set(compose["secrets"])
        assert "export" not in str(service.get("entrypoint"))


def test_compose_services_get_the_secrets_that_they_need(compose: dict[str, Any]) -> None:
    known = {setting.variable for setting in all_settings().values()}
    own = {name: one for name, one in compose["services"].items() if one["image"] == "sonant"}
    got = {name: {secret["target"] for secret in one["secrets"]} for name, one in own.items()}
    assert got["migrate"] == {"SONANT_DATABASE"}
    assert all(targets <= known for targets in got.values())
    assert all(one["environment"]["SONANT_SECRETS"] == "/run/secrets" for one in own.values())


def test_compose_containers_can_write_their_data_only(compose: dict[str, Any]) -> None:
    own = [service for service in compose["services"].values() if service["image"] == "sonant"]
    assert len(own) == 4
    for service in own:
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["volumes"] == ["data:/data"]


def test_compose_containers_have_time_to_drain(compose: dict[str, Any]) -> None:
    for name in ("api-1", "api-2"):
        service = compose["services"][name]
        drain_s = sum(float(service["environment"][f"SONANT_{part}_DRAIN_S"]) for part in ("GATEWAY", "LIVE"))
        assert int(service["stop_grace_period"].removesuffix("s")) >= drain_s + 20


# --- chart --------------------------------------------------------------------------------------------


def schema() -> Draft201909Validator:
    return Draft201909Validator(json.loads((CHART / "values.schema.json").read_text()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_chart_values_fit_the_schema(variant: str) -> None:
    assert not list(schema().iter_errors(merged(VALUES, merged(MINIMAL, VARIANTS[variant]))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"secretName": ""},
        {"settings": {"DATABASE": "x"}},
        {"settings": {"SONANT_GATEWAY_PORT": 1}},
        {"settings": {"SONANT_WIRE_PORT": 1}},
        {"settings": {"SONANT_METRICS_TOKEN": "in the clear"}},
        {"image": {"digest": "latest"}},
        {"ray": {"enabled": True, "caSecretName": "ray-authority"}},
        {"ray": {"enabled": True, "tokenSecretName": "ray-token"}},
        {"api": {"replicas": 0}},
    ],
)
def test_invalid_chart_values_are_refused(wrong: dict[str, Any]) -> None:
    assert list(schema().iter_errors(merged(VALUES, merged(MINIMAL, wrong))))


def test_every_value_in_a_template_has_a_default() -> None:
    for path in (CHART / "templates").iterdir():
        for name in set(re.findall(r"\.Values((?:\.\w+)+)", path.read_text())):
            value: Any = VALUES
            for part in name.strip(".").split("."):
                assert part in value, f"{path.name}: .Values{name}"
                value = value[part]


@pytest.mark.parametrize("variant", VARIANTS)
def test_chart_renders_the_expected_kinds_of_resources(variant: str) -> None:
    documents = rendered(VARIANTS[variant])
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(names)) == len(names)
    kinds = {kind for kind, _ in names}
    assert {"ConfigMap", "Deployment", "Job", "Service", "ServiceAccount"} <= kinds
    assert ("RayCluster" in kinds) == variant.startswith("with Ray")
    assert ("Ingress" in kinds) == (variant == "everything")
    assert ("HorizontalPodAutoscaler" in kinds) == (variant == "everything")
    assert ("PersistentVolumeClaim" in kinds) == (variant != "everything")
    assert ("NetworkPolicy" in kinds) == (variant != "one process")
    assert ("PodDisruptionBudget" in kinds) == (variant != "one process")


def test_api_pod_has_time_to_drain() -> None:
    documents = rendered({"api": {"drainSeconds": 7, "liveDrainSeconds": 120}})
    settings = next(document for document in documents if document["kind"] == "ConfigMap")["data"]
    assert (settings["SONANT_GATEWAY_DRAIN_S"], settings["SONANT_LIVE_DRAIN_S"]) == ("7", "120")
    (api,) = (one for one in workloads(documents) if one.component == "api")
    assert api.spec["terminationGracePeriodSeconds"] == 157
    probes = api.spec["containers"][0]
    assert probes["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert probes["livenessProbe"]["httpGet"]["path"] == "/health"


# --- systemd ------------------------------------------------------------------------------------------

UNITS = sorted((DEPLOY / "systemd").glob("sonant*"))


def unit_lines(path: Path) -> list[tuple[str, str, str]]:
    """(section, key, value) of a unit, in order."""
    found, section = [], ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            found.append((section, key, value))
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(path: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze: apt install systemd")
    for unit in UNITS:  # a timer needs its service; the program need not be installed here
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/sonant", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / path.name)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "path", [one for one in UNITS if one.suffix == ".service"], ids=lambda path: path.name
)
def test_units_run_known_commands_unprivileged(path: Path) -> None:
    values = {key: value for _, key, value in unit_lines(path)}
    (command,) = re.findall(r"/usr/bin/sonant (\w+)", values["ExecStart"])
    assert command in COMMANDS
    assert values["User"] == values["Group"] == "sonant"
    assert values["UMask"] == "0077"
    assert values["CapabilityBoundingSet"] == ""
    assert (values["NoNewPrivileges"], values["ProtectSystem"]) == ("yes", "strict")


def test_the_units_watchdog_and_reload_are_what_the_service_does() -> None:
    values = {key: value for _, key, value in unit_lines(DEPLOY / "systemd" / "sonant.service")}
    assert values["Type"] == "notify"
    assert values["WatchdogSec"].isdigit()
    assert "-HUP" in values["ExecReload"]
    assert values["StateDirectoryMode"] == "0700"
    assert values["StateDirectory"] == "sonant"


@pytest.mark.parametrize(
    "path", [one for one in UNITS if one.suffix == ".service"], ids=lambda path: path.name
)
def test_no_unit_overrides_what_the_settings_file_says(path: Path) -> None:
    lines = unit_lines(path)
    assert not [value for _, key, value in lines if key == "Environment"]
    assert "--config /etc/sonant/sonant.toml" in {key: value for _, key, value in lines}["ExecStart"]
