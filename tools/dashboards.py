"""Write the Grafana dashboards of `deploy/grafana` from the panels below: `python tools/dashboards.py`.

A dashboard asks for its Prometheus data source and its job when it is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana"
#: Grafana's grid has 24 columns.
_COLUMNS, _HEIGHT = 24, 8
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_JOB = 'job=~"$job"'
_FAILED = 'reason!~"CALL_ENDED|REQUESTED|IDLE|TOO_LONG"'


@dataclass(frozen=True)
class Panel:
    """One panel: queries by legend; `$job` restricts each metric. `width` is in columns of 24."""

    title: str
    help: str
    queries: Mapping[str, str]
    unit: str = "short"
    width: int = 8
    kind: str = "timeseries"


def _rate(metric: str, by: str = "", only: str = "") -> str:
    matchers = ",".join(filter(None, (_JOB, only)))
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{matchers}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str = "", only: str = "") -> str:
    buckets = _rate(f"{metric}_bucket", ", ".join(filter(None, ("le", by))), only)
    return f"histogram_quantile({share:g}, {buckets})"


def _gauge(metric: str, how: str = "sum", by: str = "") -> str:
    return f"{how}{f' by ({by})' if by else ''} ({metric}{{{_JOB}}})"


SERVICE = (
    Panel(
        "Requests",
        "Requests a second, by operation.",
        {"{{operation}}": _rate("voiceid_request_latency_seconds_count", "operation")},
        "reqps",
        12,
    ),
    Panel(
        "Latency",
        "Time from a request's last byte to its answer.",
        {
            "half": _quantile(0.5, "voiceid_request_latency_seconds"),
            "95 %": _quantile(0.95, "voiceid_request_latency_seconds"),
            "99 %": _quantile(0.99, "voiceid_request_latency_seconds"),
        },
        "s",
        12,
    ),
    Panel(
        "Refusals by code",
        "Requests that were not answered with 200.",
        {"{{code}}": _rate("sonant_refusals_total", "code")},
        "reqps",
    ),
    Panel(
        "Failures by operation",
        "Requests that failed in the service.",
        {"{{operation}}": _rate("voiceid_system_errors_total", "operation")},
        "reqps",
    ),
    Panel(
        "Throttled",
        "Requests over their rate, by operation.",
        {"{{operation}}": _rate("voiceid_throttles_total", "operation")},
        "reqps",
    ),
    Panel(
        "Connections",
        "Open connections of clients, and their limit.",
        {"open": _gauge("sonant_connections_open"), "most": _gauge("sonant_connections_most")},
    ),
    Panel(
        "Connections lost",
        "Connections that ended before their request, by reason.",
        {"{{reason}}": _rate("sonant_connections_lost_total", "reason")},
        "cps",
    ),
    Panel(
        "Database",
        "Threads with a transaction, and those that wait for one.",
        {
            "in use": _gauge("sonant_database_connections_in_use"),
            "waiting": _gauge("sonant_database_connections_waiting"),
        },
    ),
    Panel(
        "Processor",
        "Cores that the services use; runners and workers are processes of their own.",
        {"{{instance}}": _rate("process_cpu_seconds_total", "instance")},
    ),
    Panel(
        "Memory",
        "Resident memory of the services.",
        {"{{instance}}": _gauge("process_resident_memory_bytes", by="instance")},
        "bytes",
    ),
    Panel(
        "Releases",
        "How many services run which release.",
        {"{{version}} on Python {{python}}": _gauge("sonant_build_info", "count", "version, python")},
        kind="stat",
    ),
)
CALLS = (
    Panel(
        "Active sessions",
        "Sessions pending or ongoing, by domain.",
        {"{{domain}}": _gauge("voiceid_active_sessions", "max", "domain")},
    ),
    Panel(
        "Streams ended",
        "Streams that ended, by reason.",
        {"{{reason}}": _rate("sonant_streams_ended_total", "reason")},
        "cps",
    ),
    Panel(
        "Streams that failed",
        "Share of streams that did not end with their call.",
        {
            "failed": f"{_rate('sonant_streams_ended_total', only=_FAILED)} / "
            f"{_rate('sonant_streams_ended_total')}"
        },
        "percentunit",
    ),
    Panel(
        "Authentications",
        "New decisions, by kind.",
        {"{{decision}}": _rate("sonant_decisions_total", "decision", 'kind="authentication"')},
        "cps",
        12,
    ),
    Panel(
        "Fraud detections",
        "New decisions, by kind.",
        {"{{decision}}": _rate("sonant_decisions_total", "decision", 'kind="fraud"')},
        "cps",
        12,
    ),
    Panel(
        "Scores of authentications",
        "Scores of new decisions as answers tell them.",
        {"{{le}}": _rate("sonant_decision_score_bucket", "le", 'kind="authentication"')},
        kind="heatmap",
    ),
    Panel(
        "Risks",
        "Greater risk of new fraud detections.",
        {"{{le}}": _rate("sonant_decision_score_bucket", "le", 'kind="fraud"')},
        kind="heatmap",
    ),
    Panel(
        "Time to a decision",
        "From the first audio of the call to a decision with a score.",
        {
            "half": _quantile(0.5, "sonant_decision_seconds", only='kind="authentication"'),
            "95 %": _quantile(0.95, "sonant_decision_seconds", only='kind="authentication"'),
        },
        "s",
    ),
    Panel(
        "Speakers locked",
        "Speakers locked after many rejections.",
        {"locked": _gauge("sonant_speakers_locked_total", "max")},
        kind="stat",
    ),
    Panel(
        "Budgets used up",
        "How often a budget of comparisons was used up.",
        {
            "of speakers": _gauge("sonant_probe_budgets_used_total", "max"),
            "of fraudsters": _gauge("sonant_fraudster_budgets_used_total", "max"),
        },
        kind="stat",
    ),
    Panel(
        "People",
        "Speakers and fraudsters.",
        {
            "speakers {{domain}}": _gauge("voiceid_speakers", "max", "domain"),
            "fraudsters {{domain}}": _gauge("voiceid_fraudsters", "max", "domain"),
        },
    ),
)
JOBS = (
    Panel(
        "Runners",
        "1 while the runner beside a service can do jobs.",
        {"{{instance}}": _gauge("sonant_runner_up", "min", "instance")},
        kind="stat",
    ),
    Panel(
        "Active jobs",
        "Jobs submitted or in progress.",
        {
            "enrollment": _gauge("voiceid_active_speaker_enrollment_jobs", "max"),
            "registration": _gauge("voiceid_active_fraudster_registration_jobs", "max"),
        },
    ),
    Panel(
        "Requests left",
        "Requests of active jobs that are not finished, by domain.",
        {"{{domain}}": _gauge("sonant_queue_depth", "max", "domain")},
    ),
    Panel(
        "Requests finished",
        "By outcome: a status, or ERROR and the code.",
        {"{{outcome}}": "max by (outcome) (rate(sonant_job_requests_total{" + _JOB + "}[$__rate_interval]))"},
        "cps",
        12,
    ),
    Panel(
        "Jobs ended",
        "By type and status, within the hour before.",
        {"{{type}} {{status}}": "max by (type, status) (increase(sonant_jobs_total{" + _JOB + "}[1h]))"},
        width=12,
    ),
    Panel(
        "Duration of jobs",
        "Time that runners worked on jobs that ended.",
        {
            "half, {{type}}": _quantile(0.5, "sonant_job_seconds", "type"),
            "95 %, {{type}}": _quantile(0.95, "sonant_job_seconds", "type"),
        },
        "s",
    ),
    Panel(
        "Audio",
        "Seconds of audio that jobs process in a second.",
        {
            "audio": "max(rate(sonant_audio_seconds_total{" + _JOB + "}[$__rate_interval]))",
            "speech": "max(rate(sonant_speech_seconds_total{" + _JOB + "}[$__rate_interval]))",
        },
    ),
    Panel(
        "Processor of jobs",
        "Cores that recordings of jobs use.",
        {
            "all": "max(rate(sonant_compute_seconds_total{" + _JOB + "}[$__rate_interval]))",
            "embedding": "max(rate(sonant_inference_seconds_total{" + _JOB + "}[$__rate_interval]))",
        },
    ),
    Panel(
        "Workers lost",
        "Worker processes that ended before they were ready.",
        {
            "jobs": _gauge("sonant_workers_lost_at_start_total", "max"),
            "live calls": _gauge("sonant_live_workers_lost_at_start_total"),
        },
        kind="stat",
    ),
)
DATA = (
    Panel(
        "Free space",
        "By place.",
        {"{{place}} {{instance}}": _gauge("sonant_disk_free_bytes", "min", "place, instance")},
        "bytes",
    ),
    Panel(
        "Database and audit trail",
        "Sizes of SQLite's file and of the trail.",
        {"database": _gauge("sonant_database_bytes", "max"), "audit trail": _gauge("sonant_audit_bytes")},
        "bytes",
    ),
    Panel(
        "Last backup",
        "Time since the last backup by `sonant backup`.",
        {"age": f"time() - {_gauge('sonant_last_backup_timestamp_seconds', 'max')}"},
        "s",
        kind="stat",
    ),
    Panel(
        "Events waiting",
        "Events that a sink has not taken.",
        {"{{sink}}": _gauge("sonant_events_waiting", "max", "sink")},
    ),
    Panel(
        "Oldest event",
        "Age of the oldest event that waits.",
        {"{{sink}}": _gauge("sonant_events_oldest_seconds", "max", "sink")},
        "s",
    ),
    Panel(
        "Audit trail",
        "Records that wait for the disk; 1 while it cannot be written.",
        {"waiting": _gauge("sonant_audit_waiting"), "failing": _gauge("sonant_audit_failing", "max")},
    ),
    Panel(
        "Ages of keys",
        "Of the service key, and of own keys.",
        {"{{key}}": _gauge("sonant_key_age_seconds", "max", "key")},
        "s",
    ),
    Panel(
        "Ages of template spaces",
        "Of the domains' secret transforms.",
        {"{{domain}}": _gauge("sonant_template_key_age_seconds", "max", "domain")},
        "s",
    ),
    Panel(
        "Certificate",
        "Time until the TLS certificate ends.",
        {"left": f"{_gauge('sonant_certificate_expires_timestamp_seconds', 'min')} - time()"},
        "s",
        kind="stat",
    ),
    Panel(
        "Changed rows",
        "Rows that something else than Sonant has changed, by table.",
        {"{{table}}": _gauge("sonant_integrity_faults_total", "max", "table")},
        kind="stat",
        width=12,
    ),
    Panel(
        "Damage",
        "1 when SQLite's file is damaged; speakers that could not expire.",
        {
            "damaged": _gauge("sonant_database_damaged", "max"),
            "not expired": _gauge("sonant_speakers_not_expired_total", "max"),
        },
        kind="stat",
        width=12,
    ),
)
DASHBOARDS: Mapping[str, tuple[str, Sequence[Panel]]] = {
    "service": ("Sonant: service", SERVICE),
    "calls": ("Sonant: calls and decisions", CALLS),
    "jobs": ("Sonant: jobs", JOBS),
    "data": ("Sonant: data, keys, backups", DATA),
}


def dashboard(name: str) -> dict[str, Any]:
    """Build a dashboard's document."""
    title, panels = DASHBOARDS[name]
    return {
        "__inputs": [],
        "uid": f"sonant-{name}",
        "title": title,
        "tags": ["sonant"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source_variable(), _job_variable()]},
        "panels": list(_placed(panels)),
    }


def _placed(panels: Sequence[Panel]) -> Any:
    x, y = 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _COLUMNS:
            x, y = 0, y + _HEIGHT
        yield {
            "id": number,
            "type": panel.kind,
            "title": panel.title,
            "description": panel.help,
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "options": {},
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": _SOURCE,
                    "expr": query,
                    "legendFormat": legend,
                    **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
                }
                for index, (legend, query) in enumerate(panel.queries.items())
            ],
        }
        x += panel.width


def _source_variable() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _job_variable() -> dict[str, Any]:
    query = "label_values(sonant_build_info, job)"
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "job"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def text(name: str) -> str:
    """Write a dashboard as its file holds it."""
    return json.dumps(dashboard(name), indent=2) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in DASHBOARDS:
        (FOLDER / f"{one}.json").write_text(text(one), "utf-8")
