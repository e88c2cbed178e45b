"""The files under `deploy/`: what can be said of them without a container engine or a cluster."""

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

from sonant.settings import loading

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "sonant"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
MINIMAL = {"secretName": "sonant-secrets"}
WAYS: dict[str, dict[str, Any]] = {
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
    found = copy.deepcopy(dict(base))
    for name, value in more.items():
        inner = found.get(name)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            found[name] = merged(inner, value)
        else:
            found[name] = value
    return found


def rendered(more: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a cluster would be given, by a Go template engine with Helm's functions."""
    sources = {f"sonant/templates/{path.name}": path.read_text() for path in (CHART / "templates").iterdir()}
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    context = {
        "Values": merged(VALUES, merged(MINIMAL, more)),
        "Release": {"Name": "voice", "Revision": 3, "Namespace": "calls"},
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
        "Template": {"BasePath": "sonant/templates"},
    }
    shown = [name for name in sources if not name.endswith("_helpers.tpl")]
    texts = HelmTemplateEngine.from_sources(sources).render(dict.fromkeys(shown, context))
    found = []
    for name, text in texts.items():
        if name.endswith(".yaml"):
            found += [document for document in yaml.safe_load_all(text) if document]
    return found


def pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in documents:
        spec, name = document.get("spec", {}), document["metadata"]["name"]
        for place in (spec, spec.get("headGroupSpec", {}), *spec.get("workerGroupSpecs", ())):
            if "template" in place:
                yield name, place["template"]


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_setting_that_is_named_is_one(path: Path) -> None:
    known = {f"SONANT_{name.upper().replace('.', '_')}" for name, _ in loading.names()}
    named = set(re.findall(r"\bSONANT_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
    assert named <= known


# --- image --------------------------------------------------------------------------------------------


def test_the_image_runs_as_nobody_special_from_a_pinned_base() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    last = lines[max(place for place, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert [line for line in last if line.startswith("USER ")] == ["USER 10001:10001"]
    assert any(line.startswith("HEALTHCHECK ") for line in last)
    assert not any("pip" in line or "apt" in line for line in last)
    assert re.search(r"^ARG PYTHON=\d+\.\d+-slim-\w+$", "\n".join(lines), re.MULTILINE)


# --- compose ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, DEPLOY / "compose.yaml"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_its_secrets_are_files_and_stand_nowhere(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            assert "SECRET" not in name and ("PASSWORD" not in name or value.startswith("/run/secrets/"))
        assert set(service.get("secrets", ())) <= set(compose["secrets"])


def test_its_own_containers_can_change_nothing_but_their_data(compose: dict[str, Any]) -> None:
    own = [service for service in compose["services"].values() if service["image"] == "sonant"]
    assert len(own) == 4
    for service in own:
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["volumes"] == ["data:/data"]


def test_its_containers_have_time_to_drain(compose: dict[str, Any]) -> None:
    for name in ("api-1", "api-2"):
        service = compose["services"][name]
        drain_s = sum(float(service["environment"][f"SONANT_{part}_DRAIN_S"]) for part in ("GATEWAY", "LIVE"))
        assert int(service["stop_grace_period"].removesuffix("s")) >= drain_s + 20


# --- chart --------------------------------------------------------------------------------------------


def schema() -> Draft201909Validator:
    return Draft201909Validator(json.loads((CHART / "values.schema.json").read_text()))


@pytest.mark.parametrize("way", WAYS)
def test_the_charts_values_fit_its_schema(way: str) -> None:
    assert not list(schema().iter_errors(merged(VALUES, merged(MINIMAL, WAYS[way]))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"secretName": ""},
        {"settings": {"DATABASE": "x"}},
        {"settings": {"SONANT_GATEWAY_PORT": 1}},
        {"api": {"replicas": 0}},
    ],
)
def test_values_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    assert list(schema().iter_errors(merged(VALUES, merged(MINIMAL, wrong))))


def test_every_value_that_a_template_asks_for_has_a_default() -> None:
    for path in (CHART / "templates").iterdir():
        for name in set(re.findall(r"\.Values((?:\.\w+)+)", path.read_text())):
            place: Any = VALUES
            for part in name.strip(".").split("."):
                assert part in place, f"{path.name}: .Values{name}"
                place = place[part]


@pytest.mark.parametrize("way", WAYS)
def test_the_chart_renders_to_what_a_cluster_takes_in(way: str) -> None:
    documents = rendered(WAYS[way])
    places = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(places)) == len(places)
    kinds = {kind for kind, _ in places}
    assert {"ConfigMap", "Deployment", "Job", "Service", "ServiceAccount"} <= kinds
    assert ("RayCluster" in kinds) == (way == "with Ray")
    assert ("Ingress" in kinds) == (way == "everything")
    assert ("HorizontalPodAutoscaler" in kinds) == (way == "everything")
    assert ("PersistentVolumeClaim" in kinds) == (way != "everything")
    assert ("NetworkPolicy" in kinds) == (way != "one process")
    assert ("PodDisruptionBudget" in kinds) == (way != "one process")


@pytest.mark.parametrize("way", WAYS)
def test_no_pod_may_more_than_it_needs(way: str) -> None:
    found = list(pods(rendered(WAYS[way])))
    assert len(found) >= 3
    for _, template in found:
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == {volume["name"] for volume in spec["volumes"]}


def test_selectors_find_their_own_pods_and_no_others() -> None:
    documents = rendered({})
    labels = {name: template["metadata"]["labels"] for name, template in pods(documents)}
    service = next(document for document in documents if document["kind"] == "Service")
    budget = next(document for document in documents if document["kind"] == "PodDisruptionBudget")
    for selector in (service["spec"]["selector"], budget["spec"]["selector"]["matchLabels"]):
        chosen = [name for name, own in labels.items() if selector.items() <= own.items()]
        assert chosen == ["voice-api"]


def test_an_api_pod_has_time_to_drain() -> None:
    documents = rendered({"api": {"drainSeconds": 7, "liveDrainSeconds": 120}})
    settings = next(document for document in documents if document["kind"] == "ConfigMap")["data"]
    assert (settings["SONANT_GATEWAY_DRAIN_S"], settings["SONANT_LIVE_DRAIN_S"]) == ("7", "120")
    template = dict(pods(documents))["voice-api"]
    assert template["spec"]["terminationGracePeriodSeconds"] == 157
    probes = template["spec"]["containers"][0]
    assert probes["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert probes["livenessProbe"]["httpGet"]["path"] == "/health"
