"""The files under `deploy/`, checked without a container engine or a cluster."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from gotpl.exts.helm import HelmTemplateEngine
from jsonschema import Draft201909Validator
from waiting import PATIENCE_S

from sonant.settings.listing import all_settings, former_variables

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "sonant"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
MINIMAL = {"secretName": "sonant-secrets"}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "everything": {
        "persistence": {"existingClaim": "kept", "storageClass": "nfs"},
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccount": {"annotations": {"role": "voice"}},
        "api": {
            "autoscaling": {"enabled": True},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "calls", "operator": "Exists"}],
        },
        "worker": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "jobs", "operator": "Exists"}]},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "voice.example.com",
            "tlsSecretName": "tls",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "14400"},
        },
        "networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"name": "calls"}}}]},
    },
    "with Ray": {"ray": {"enabled": True, "image": "sonant:ray"}},
    "one process": {"api": {"replicas": 1}, "networkPolicy": {"enabled": False}},
}


def files() -> list[Path]:
    return sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parts)


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(dict(base))
    for name, value in more.items():
        inner = result.get(name)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            result[name] = merged(inner, value)
        else:
            result[name] = value
    return result


def rendered(more: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Render the chart with a Go template engine that has Helm's functions."""
    sources = {f"sonant/templates/{path.name}": path.read_text() for path in (CHART / "templates").iterdir()}
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    context = {
        "Values": merged(VALUES, merged(MINIMAL, more)),
        "Release": {"Name": "voice", "Revision": 3, "Namespace": "calls"},
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
        "Template": {"BasePath": "sonant/templates"},
    }
    templates = [name for name in sources if not name.endswith("_helpers.tpl")]
    texts = HelmTemplateEngine.from_sources(sources).render(dict.fromkeys(templates, context))
    documents = []
    for name, text in texts.items():
        if name.endswith(".yaml"):
            documents += [document for document in yaml.safe_load_all(text) if document]
    return documents


def pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in documents:
        spec, name = document.get("spec", {}), document["metadata"]["name"]
        for owner in (spec, spec.get("headGroupSpec", {}), *spec.get("workerGroupSpecs", ())):
            if "template" in owner:
                yield name, owner["template"]


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_variable_in_a_file_is_one_of_a_setting(path: Path) -> None:
    known = {setting.variable for setting in all_settings().values()}
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
    assert re.search(r"^ARG PYTHON=\d+\.\d+-slim-\w+$", "\n".join(lines), re.MULTILINE)


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
            assert "SECRET" not in name and ("PASSWORD" not in name or value.startswith("/run/secrets/"))
        assert set(service.get("secrets", ())) <= set(compose["secrets"])


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
    assert ("RayCluster" in kinds) == (variant == "with Ray")
    assert ("Ingress" in kinds) == (variant == "everything")
    assert ("HorizontalPodAutoscaler" in kinds) == (variant == "everything")
    assert ("PersistentVolumeClaim" in kinds) == (variant != "everything")
    assert ("NetworkPolicy" in kinds) == (variant != "one process")
    assert ("PodDisruptionBudget" in kinds) == (variant != "one process")


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_are_unprivileged(variant: str) -> None:
    templates = list(pods(rendered(VARIANTS[variant])))
    assert len(templates) >= 3
    for _, template in templates:
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == {volume["name"] for volume in spec["volumes"]}


def test_selectors_match_only_the_pods_of_the_api() -> None:
    documents = rendered({})
    labels = {name: template["metadata"]["labels"] for name, template in pods(documents)}
    service = next(document for document in documents if document["kind"] == "Service")
    budget = next(document for document in documents if document["kind"] == "PodDisruptionBudget")
    for selector in (service["spec"]["selector"], budget["spec"]["selector"]["matchLabels"]):
        matched = [name for name, own in labels.items() if selector.items() <= own.items()]
        assert matched == ["voice-api"]


def test_api_pod_has_time_to_drain() -> None:
    documents = rendered({"api": {"drainSeconds": 7, "liveDrainSeconds": 120}})
    settings = next(document for document in documents if document["kind"] == "ConfigMap")["data"]
    assert (settings["SONANT_GATEWAY_DRAIN_S"], settings["SONANT_LIVE_DRAIN_S"]) == ("7", "120")
    template = dict(pods(documents))["voice-api"]
    assert template["spec"]["terminationGracePeriodSeconds"] == 157
    probes = template["spec"]["containers"][0]
    assert probes["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert probes["livenessProbe"]["httpGet"]["path"] == "/health"
