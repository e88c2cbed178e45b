"""The Helm chart, rendered by a Go template engine with Helm's functions: no Helm, no cluster."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from gotpl.exts.helm import HelmTemplateEngine

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
        "metrics": {
            "enabled": True,
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
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
    "with Ray": {
        "ray": {
            "enabled": True,
            "image": "sonant:ray",
            "tokenSecretName": "ray-token",
            "caSecretName": "ray-authority",
        }
    },
    "with Ray and added models": {
        "image": {"digest": "sha256:" + "0" * 64},
        "ray": {
            "enabled": True,
            "tokenSecretName": "ray-token",
            "caSecretName": "ray-authority",
            "addedModels": True,
            "serviceAccount": {"annotations": {"role": "recordings"}},
        },
    },
    "one process": {"api": {"replicas": 1}, "networkPolicy": {"enabled": False}},
}


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


@dataclass(frozen=True)
class Workload:
    """A pod template of a rendered resource."""

    owner: str
    """Kind and name of the resource, and the group of a RayCluster."""
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def component(self) -> str:
        return self.labels["app.kubernetes.io/component"]

    def containers(self) -> Iterator[dict[str, Any]]:
        """Yield init containers, then the others."""
        yield from self.spec.get("initContainers", ())
        yield from self.spec["containers"]

    def volume(self, name: str) -> dict[str, Any]:
        (found,) = (volume for volume in self.spec["volumes"] if volume["name"] == name)
        return dict(found)


def workloads(documents: list[dict[str, Any]]) -> list[Workload]:
    """List all pod templates, wherever in a resource they are."""
    return [
        Workload(
            owner=f"{document['kind']}/{document['metadata']['name']}/{path}",
            labels=template["metadata"]["labels"],
            spec=template["spec"],
        )
        for document in documents
        for path, template in _templates(document, "")
    ]


def _templates(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find pod templates: objects whose `spec` has containers; and pods themselves."""
    if isinstance(value, dict):
        inner = value.get("spec")
        if isinstance(inner, dict) and "containers" in inner:
            yield path, value
            return
        for name, one in value.items():
            yield from _templates(one, f"{path}.{name}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _templates(one, f"{path}[{number}]")
