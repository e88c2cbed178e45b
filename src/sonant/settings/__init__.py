"""Hold all settings in one frozen value: `fields` declares them, `loading` reads them."""

from sonant.settings.backends import S3, KeyWrapping, Kms, Pkcs11, Postgres, Ray
from sonant.settings.declaration import MIB
from sonant.settings.fields import Settings
from sonant.settings.processing import Audio, Enrollment, Fraud, Jobs, Live, Quality, Registration, Scores
from sonant.settings.service import (
    Audit,
    Backup,
    Console,
    Deletions,
    Events,
    Gateway,
    Log,
    Metrics,
    Quotas,
    Rates,
    Traces,
)

__all__ = [
    "MIB",
    "S3",
    "Audio",
    "Audit",
    "Backup",
    "Console",
    "Deletions",
    "Enrollment",
    "Events",
    "Fraud",
    "Gateway",
    "Jobs",
    "KeyWrapping",
    "Kms",
    "Live",
    "Log",
    "Metrics",
    "Pkcs11",
    "Postgres",
    "Quality",
    "Quotas",
    "Rates",
    "Ray",
    "Registration",
    "Scores",
    "Settings",
    "Traces",
]
