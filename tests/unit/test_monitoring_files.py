"""Dashboards and alert rules: their metrics exist, their queries are whole, every alert has its page."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from rendered_chart import DEPLOY, rendered
from sqlite_template import put_tables

from sonant.assembly import installation
from sonant.assembly.figures import InstallationFigures
from sonant.metrics import ConnectionCounts, MetricsRegistry
from sonant.runner_state import RunnerState
from sonant.settings import Settings
from sonant.thread_plan import plan_threads

REPOSITORY = DEPLOY.parent
RUNBOOK = (REPOSITORY / "docs" / "runbook.md").read_text("utf-8")
RULES = yaml.safe_load((DEPLOY / "alerts.yaml").read_text("utf-8"))
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
#: What Prometheus itself provides, and what only a service with a TLS certificate of its own has.
OTHERS = {"up", "sonant_certificate_expires_timestamp_seconds"}
_METRIC = re.compile(r"\b((?:voiceid|sonant|process)_[a-z0-9_]+|up)\b(?=[{\s)\[]|$)")
_SUFFIXES = ("", "_total", "_bucket", "_sum", "_count")


def dashboards() -> Any:
    spec = importlib.util.spec_from_file_location("dashboards", REPOSITORY / "tools" / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dashboards"] = module  # where its dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


DASHBOARDS = dashboards()


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """Every sample's name that a service exports, with the names of its labels."""
    data = tmp_path_factory.mktemp("monitored") / "data"
    put_tables(data / "sonant.db")
    settings = Settings(data=data)
    store = installation.open_store(settings, create=True)
    installation.first_start(store)
    state = RunnerState(pid=1, restarts=0, down_s=None, problem="")
    registry = MetricsRegistry(
        store.database,
        0.0,
        lambda: False,
        lambda: state,
        plan=plan_threads(settings),
        operations=["DescribeDomain"],
    )
    registry.calls.observe("DescribeDomain", 0.001, None)
    registry.register_figures(InstallationFigures(store, None))
    counts = ConnectionCounts(open=0, most=1, lost={"dropped": 0}, descriptors=1)
    registry.register_connections(lambda: counts)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(registry.render().decode()):
        for suffix in _SUFFIXES:  # a gauge by domain has no sample without a domain
            found.setdefault(family.name + suffix, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    yield found
    store.database.close()


def queries() -> Iterator[tuple[str, str]]:
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for name in DASHBOARDS.DASHBOARDS:
        for panel in DASHBOARDS.dashboard(name)["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_every_metric_of_a_query_is_exported(metrics: dict[str, set[str]], where: str, query: str) -> None:
    named = set(_METRIC.findall(query)) - OTHERS
    assert named or "up" in query or "certificate" in query, "a query of nothing"
    assert named <= set(metrics), where


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_brackets_of_a_query_are_closed(where: str, query: str) -> None:
    plain = re.sub(r'"[^"]*"', "", query)
    waiting: list[str] = []
    for one in plain:
        if one in "([{":
            waiting.append({"(": ")", "[": "]", "{": "}"}[one])
        elif one in ")]}":
            assert waiting, where
            assert waiting.pop() == one, where
    assert not waiting, where


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_its_section_of_the_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
    section = RUNBOOK.partition(f"### {alert['alert']}\n")[2].partition("\n#")[0]
    assert len(section.split()) > 10


def test_every_section_of_the_runbook_has_an_alert() -> None:
    assert sorted(re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)) == sorted(
        alert["alert"] for alert in ALERTS
    )


@pytest.mark.parametrize("name", DASHBOARDS.DASHBOARDS)
def test_dashboards_are_as_the_tool_makes_them(name: str) -> None:
    stored = (DEPLOY / "grafana" / f"{name}.json").read_text("utf-8")
    assert stored == DASHBOARDS.text(name), "run python tools/dashboards.py"


@pytest.mark.parametrize("name", DASHBOARDS.DASHBOARDS)
def test_panels_lie_beside_each_other_and_explain_themselves(name: str) -> None:
    document = json.loads(DASHBOARDS.text(name))
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    for panel in document["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells


def test_every_metric_is_described_on_the_page(metrics: dict[str, set[str]]) -> None:
    page = (REPOSITORY / "docs" / "events.md").read_text("utf-8")
    families = {
        name
        for name in metrics
        if name.startswith(("sonant_", "voiceid_")) and not name.endswith(_SUFFIXES[1:])
    }
    assert {name for name in families if f"`{name}" not in page} == set()


def test_the_monitor_of_the_chart_scrapes_the_service_with_the_token() -> None:
    documents = rendered({"metrics": {"enabled": True, "serviceMonitor": {"enabled": True}}})
    (monitor,) = [one for one in documents if one["kind"] == "ServiceMonitor"]
    (service,) = [one for one in documents if one["kind"] == "Service"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["authorization"]["credentials"] == {
        "name": "sonant-secrets",
        "key": "SONANT_METRICS_TOKEN",
    }
    assert not any(one["kind"] == "ServiceMonitor" for one in rendered({}))
