"""Figures of an installation for its metrics: space, audit trail, ages of keys, the certificate's end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography import x509
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from sonant.assembly.installation import Store, audit_folders
from sonant.assembly.installation.folders import size_bytes
from sonant.audit import chain
from sonant.audit.trail import Trail
from sonant.errors import KeyError_, KeysUnreachable, SetupError


class InstallationFigures:
    """Makes the gauges. A part that cannot be read is left out: readiness and `sonant doctor` say why."""

    def __init__(self, store: Store, trail: Trail | None) -> None:
        """`trail` is the audit trail of this process; None where there is none."""
        self._store, self._trail = store, trail

    def __call__(self) -> Iterator[Metric]:
        """Yield the gauges as of now."""
        yield from self._space()
        yield from self._audit()
        yield from self._keys()
        yield from self._certificate()

    def _space(self) -> Iterator[Metric]:
        settings = self._store.settings
        free = GaugeMetricFamily(
            "sonant_disk_free_bytes", "Free space of the file system that a place is on", labels=["place"]
        )
        places = {"data": settings.data}
        if settings.deletions.ledger and settings.ledger_folder.is_dir():
            places["deletions"] = settings.ledger_folder
        for name, folder in places.items():
            try:
                free.add_metric([name], shutil.disk_usage(folder).free)
            except OSError:
                continue
        yield free
        if settings.embedded:
            file = settings.data / "sonant.db"
            size = size_bytes(file) + size_bytes(file.with_name("sonant.db-wal"))
            yield GaugeMetricFamily("sonant_database_bytes", "Size of SQLite's file and its log", size)

    def _audit(self) -> Iterator[Metric]:
        folders = audit_folders(self._store.settings)
        size = sum(size_bytes(file) for folder in folders for file in chain.files(folder))
        yield GaugeMetricFamily("sonant_audit_bytes", "Size of the audit trail", size)
        waiting = 0 if self._trail is None else self._trail.waiting
        yield GaugeMetricFamily("sonant_audit_waiting", "Audit records that wait for the disk", waiting)

    def _keys(self) -> Iterator[Metric]:
        """Show ages of the service key's and of own keys' present material; a key service has its own."""
        ages = GaugeMetricFamily("sonant_key_age_seconds", "Age of a key", labels=["key"])
        now = self._store.clock()
        former = self._store.secret.keys.former
        if former and former[0].replaced_at is not None:
            ages.add_metric(["service key"], _age(now, former[0].replaced_at))
        if self._store.backends.owns_keys and not self._store.accounts.in_token:
            settings = self._store.settings
            try:
                for key in self._store.accounts.keys(settings.account).list():
                    ages.add_metric([key.key_id], _age(now, key.created_at))
            except (KeyError_, KeysUnreachable, SetupError):
                pass
        yield ages

    def _certificate(self) -> Iterator[Metric]:
        file = self._store.settings.gateway.tls_certificate
        if not file:
            return
        try:
            chain_of_trust = x509.load_pem_x509_certificates(Path(file).read_bytes())
        except (OSError, ValueError):
            return
        ends = min(one.not_valid_after_utc for one in chain_of_trust)
        yield GaugeMetricFamily(
            "sonant_certificate_expires_timestamp_seconds",
            "When the TLS certificate ends, in seconds since 1970",
            ends.timestamp(),
        )


def _age(now: datetime, since: datetime) -> float:
    return (now - since).total_seconds()
