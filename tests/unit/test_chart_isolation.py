"""The Helm chart gives each pod what it needs and no more: a new workload is in the table here, or fails."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from rendered_chart import CHART, VARIANTS, Workload, rendered, workloads

from sonant.settings.listing import all_settings

COMPONENT = "app.kubernetes.io/component"
SECRETS = "/run/secrets/sonant"
RAY = {"ray": {"enabled": True, "tokenSecretName": "ray-token", "caSecretName": "ray-authority"}}
S3_KEYS = {"SONANT_S3_ACCESS_KEY_ID", "SONANT_S3_SECRET_ACCESS_KEY"}
RUNNER_KEYS = S3_KEYS | {
    "SONANT_DATABASE",
    "SONANT_KMS_ACCESS_KEY_ID",
    "SONANT_KMS_SECRET_ACCESS_KEY",
    "SONANT_PKCS11_PIN",
    "SONANT_EVENTS_WEBHOOK_SECRET",
    "SONANT_AUDIT_HEADS_SECRET",
    "SONANT_TRACES_HEADERS",
}
ALL_KEYS = {one.variable for one in all_settings().values() if one.declared.secret} | RUNNER_KEYS


@dataclass(frozen=True)
class Allowed:
    """What a container may have."""

    secrets: frozenset[str] = frozenset()
    data: bool = False
    """The data folder, with service.key."""
    settings: bool = False
    ray: bool = False
    """Ray's token and a certificate."""
    authority: bool = False
    """The key that issues certificates."""


OPENS_DOMAINS = Allowed(secrets=frozenset(RUNNER_KEYS), data=True, settings=True)
#: By component and container.
CONTAINERS = {
    ("api", "api"): Allowed(secrets=frozenset(ALL_KEYS), data=True, settings=True),
    ("worker", "worker"): OPENS_DOMAINS,
    ("migrate", "migrate"): Allowed(secrets=frozenset({"SONANT_DATABASE"}), data=True, settings=True),
    ("ray-head", "certificate"): Allowed(authority=True),
    ("ray-head", "ray-head"): Allowed(ray=True),
    ("ray-head", "worker"): Allowed(secrets=frozenset(RUNNER_KEYS), data=True, settings=True, ray=True),
    ("ray-actors", "certificate"): Allowed(authority=True),
    ("ray-actors", "ray-worker"): Allowed(secrets=frozenset(S3_KEYS), settings=True, ray=True),
}
#: Components without a workload of their own in a variant.
RAY_COMPONENTS, PLAIN_COMPONENTS = {"api", "migrate", "ray-head", "ray-actors"}, {"api", "migrate", "worker"}

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["name"]: mount for mount in container["volumeMounts"]}


def secret_keys(workload: Workload, container: dict[str, Any]) -> frozenset[str]:
    """Which keys of Sonant's secret a container can read."""
    if "secrets" not in mounts(container):
        return frozenset()
    items = workload.volume("secrets")["secret"].get("items")
    return frozenset(ALL_KEYS if items is None else (item["key"] for item in items))


def found(workload: Workload, container: dict[str, Any]) -> Allowed:
    """What a container has."""
    mounted = mounts(container)
    data = mounted.get("data", {}).get("mountPath") == "/data"
    return Allowed(
        secrets=secret_keys(workload, container),
        data=data,
        settings="envFrom" in container,
        ray="ray-token" in mounted,
        authority="ray-authority" in mounted,
    )


def selectors(document: dict[str, Any]) -> list[dict[str, str]]:
    """All selectors of pods in a resource; an empty one selects every pod of the namespace."""
    result: list[dict[str, str]] = []

    def search(value: Any, name: str) -> None:
        if isinstance(value, dict):
            if name in ("selector", "podSelector", "labelSelector"):
                result.append(value.get("matchLabels", value if name == "selector" else {}))
                return
            for inner, one in value.items():
                search(one, inner)
        elif isinstance(value, list):
            for one in value:
                search(one, name)

    search(document.get("spec", {}), "")
    return result


# --- what a container has -----------------------------------------------------------------------------


@every_variant
def test_every_container_has_what_it_needs_and_no_more(variant: str) -> None:
    for workload in workloads(rendered(VARIANTS[variant])):
        for container in workload.containers():
            wanted = CONTAINERS[workload.component, container["name"]]
            assert found(workload, container) == wanted, (workload.owner, container["name"])


def test_every_container_of_the_table_is_rendered() -> None:
    rendered_ones = {
        (workload.component, container["name"])
        for variant in VARIANTS.values()
        for workload in workloads(rendered(variant))
        for container in workload.containers()
    }
    assert rendered_ones == set(CONTAINERS)


@every_variant
def test_secrets_are_files_and_in_no_environment(variant: str) -> None:
    documents = rendered(VARIANTS[variant])
    for workload in workloads(documents):
        for container in workload.containers():
            assert all(set(one) == {"configMapRef"} for one in container.get("envFrom", ()))
            for variable in container.get("env", ()):
                assert set(variable) == {"name", "value"} or "fieldRef" in variable["valueFrom"]
            if "secrets" in mounts(container):
                assert mounts(container)["secrets"] == {
                    "name": "secrets",
                    "mountPath": SECRETS,
                    "readOnly": True,
                }
        for volume in workload.spec["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440
    (settings,) = (one["data"] for one in documents if one["kind"] == "ConfigMap")
    assert settings["SONANT_SECRETS"] == SECRETS
    assert not settings.keys() & ALL_KEYS


def test_secret_settings_are_refused_as_plain_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    refused = set(schema["properties"]["settings"]["propertyNames"]["not"]["enum"])
    assert {one.variable for one in all_settings().values() if one.declared.secret} <= refused


@every_variant
def test_pods_are_unprivileged(variant: str) -> None:
    listed = workloads(rendered(VARIANTS[variant]))
    assert len(listed) >= 3
    for workload in listed:
        assert workload.spec["securityContext"]["runAsNonRoot"]
        assert not workload.spec.get("hostNetwork") and not workload.spec.get("shareProcessNamespace")
        used: set[str] = set()
        for container in workload.containers():
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            used |= set(mounts(container))
        assert used == {volume["name"] for volume in workload.spec["volumes"]}, workload.owner


def test_actors_see_added_models_only_and_cannot_change_them() -> None:
    (actors,) = (
        one
        for one in workloads(rendered(VARIANTS["with Ray and added models"]))
        if one.component == "ray-actors"
    )
    (container,) = actors.spec["containers"]
    assert mounts(container)["data"] == {
        "name": "data",
        "mountPath": "/data/models",
        "subPath": "models",
        "readOnly": True,
    }
    assert actors.spec["serviceAccountName"] == "voice-ray-actors"


@every_variant
def test_service_accounts_exist_and_bring_no_token(variant: str) -> None:
    documents = rendered(VARIANTS[variant])
    accounts = {one["metadata"]["name"]: one for one in documents if one["kind"] == "ServiceAccount"}
    assert {one.spec["serviceAccountName"] for one in workloads(documents)} == set(accounts)
    assert all(one["automountServiceAccountToken"] is False for one in accounts.values())


# --- who reaches whom ---------------------------------------------------------------------------------


@every_variant
def test_every_workload_has_a_component_of_its_own(variant: str) -> None:
    components = [one.component for one in workloads(rendered(VARIANTS[variant]))]
    assert sorted(components) == sorted(
        RAY_COMPONENTS if variant.startswith("with Ray") else PLAIN_COMPONENTS
    )


@every_variant
def test_every_selector_names_one_component(variant: str) -> None:
    documents = rendered(VARIANTS[variant])
    listed = workloads(documents)
    for document in documents:
        for selector in selectors(document) if document["kind"] != "ServiceMonitor" else ():  # of services
            if not selector and document["kind"] == "NetworkPolicy":
                continue  # a peer: every pod of the namespace may call the API; checked below
            matched = [one.component for one in listed if selector.items() <= one.labels.items()]
            assert matched == [selector[COMPONENT]], (document["kind"], document["metadata"]["name"])


@every_variant
def test_every_workload_has_one_network_policy_for_both_directions(variant: str) -> None:
    documents = rendered(VARIANTS[variant])
    policies = [one for one in documents if one["kind"] == "NetworkPolicy"]
    for workload in workloads(documents) if policies else ():
        own = [
            one
            for one in policies
            if one["spec"]["podSelector"]["matchLabels"].items() <= workload.labels.items()
        ]
        assert len(own) == 1, workload.owner
        assert own[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def policies_of(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rules of the network policies, by component."""
    return {
        one["spec"]["podSelector"]["matchLabels"][COMPONENT]: one["spec"]
        for one in rendered(values)
        if one["kind"] == "NetworkPolicy"
    }


def test_only_the_api_and_rays_own_nodes_are_reached_by_others() -> None:
    plain, ray = policies_of({}), policies_of(RAY)
    assert plain["worker"]["ingress"] == plain["migrate"]["ingress"] == ray["migrate"]["ingress"] == []
    assert plain["api"]["ingress"] == [
        {"ports": [{"port": 8180, "protocol": "TCP"}], "from": [{"podSelector": {}}]}
    ]
    for component in ("ray-head", "ray-actors"):
        (rule,) = ray[component]["ingress"]
        peers = {peer["podSelector"]["matchLabels"][COMPONENT] for peer in rule["from"]}
        assert set(rule) == {"from"}
        assert peers == {"ray-head", "ray-actors"}


def test_actors_reach_neither_database_nor_api() -> None:
    rules = policies_of(RAY)["ray-actors"]["egress"]
    ports = {port["port"] for rule in rules for port in rule.get("ports", ())}
    assert ports == {53, 443}
    assert {
        peer["podSelector"]["matchLabels"][COMPONENT] for rule in rules for peer in rule.get("to", ())
    } == {
        "ray-head",
        "ray-actors",
    }


# --- Ray ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"ray": {"tokenSecretName": ""}}, "ray.enabled needs ray.tokenSecretName"),
        ({"ray": {"caSecretName": ""}}, "ray.enabled needs ray.caSecretName"),
        ({"networkPolicy": {"enabled": False}}, "ray.enabled needs networkPolicy.enabled"),
        ({"settings": {"SONANT_OBJECTS": "local"}}, "ray.enabled needs settings.SONANT_OBJECTS: s3"),
    ],
    ids=["token", "authority", "network policy", "objects"],
)
def test_ray_without_protection_is_not_rendered(missing: dict[str, Any], said: str) -> None:
    values = {name: {**RAY.get(name, {}), **value} for name, value in {**RAY, **missing}.items()}
    with pytest.raises(Exception, match=said):
        rendered(values)
    assert rendered(RAY)


def test_every_process_of_ray_has_token_and_certificate() -> None:
    for workload in workloads(rendered(RAY)):
        for container in workload.containers():
            if not CONTAINERS[workload.component, container["name"]].ray:
                continue
            environment = {one["name"]: one.get("value") for one in container["env"]}
            paths = {name: mount["mountPath"] for name, mount in mounts(container).items()}
            assert environment["RAY_AUTH_MODE"] == "token"
            assert environment["RAY_AUTH_TOKEN_PATH"] == paths["ray-token"] + "/token"
            assert environment["RAY_USE_TLS"] == "1"
            for name in ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"):
                assert environment[name].startswith(paths["ray-certificate"] + "/")
