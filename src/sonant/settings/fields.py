"""Declare all settings: each with its default, range, unit and meaning, once.

`number(default, least, most, unit, meaning)` and its like stand in `declaration`; `docs/settings.md` is
generated from these lines. Every other module receives the group that it needs. A carrier's settings are
declared in its own module (`carriers/providers`), in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from sonant.settings.backends import S3, KeyWrapping, Kms, Pkcs11, Postgres, Ray
from sonant.settings.declaration import choice, group, path, switch, text
from sonant.settings.processing import Audio, Enrollment, Fraud, Jobs, Live, Quality, Registration, Scores
from sonant.settings.registries import ENGINES, KEY_STORES, OBJECT_STORES
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

_REGION = "[a-z0-9-]{1,64}"
OfCarrier = TypeVar("OfCarrier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings."""

    data: Path = path(Path("sonant-data"), "The data folder: database, buckets, keys, credentials.")
    region: str = text(
        "us-east-1",
        "Region of ARNs and of signatures.",
        pattern=_REGION,
        form="the name of a Region, such as eu-west-2: 1 to 64 of a-z 0-9 -",
    )
    regions: str = text(
        "",
        "Further Regions that calls may be signed for, separated by commas; each has domains, quotas and "
        "request rates of its own.",
        pattern=rf"\s*({_REGION})?(\s*,\s*({_REGION})?)*\s*",
        form="names of Regions, such as eu-west-2, separated by commas: each 1 to 64 of a-z 0-9 -",
    )
    account: str = text(
        "000000000000", "Account of the first access key, in ARNs.", pattern=r"[0-9]{12}", form="12 digits"
    )
    database: str = text(
        "",
        "Database URL: `postgresql://user:password@host/name`; empty means SQLite in the data folder.",
        secret=True,
    )
    objects: str = choice(
        "local",
        OBJECT_STORES,
        "Where `s3://bucket/key` lies: `local` is a folder for each bucket under `buckets` in the data "
        "folder, `s3` is any S3.",
    )
    keys: str = choice(
        "local",
        KEY_STORES,
        "Where keys lie: `local` is the folder `keys` in the data folder, `aws-kms` is AWS KMS, `pkcs11` is "
        "a PKCS#11 token.",
    )
    engine: str = choice(
        "local",
        ENGINES,
        "Where jobs process recordings: `local` is worker processes on the runner's machine, `ray` is a Ray "
        "cluster. Live calls are always processed on the machine that serves them.",
    )
    encoder: str = choice(
        "campplus",
        ("ge2e", "campplus"),
        "Voice model of new domains: `campplus` errs less, `ge2e` takes a third of its processor time. "
        "Existing domains keep theirs (`sonant model upgrade` changes it).",
    )
    biometric_consent: bool = switch(
        True, "The account accepts the biometric privacy notice; without it no domain can be created."
    )
    last_watchlist_conflict: bool = switch(
        True,
        "Removing a fraudster from its last watchlist is a conflict; false makes it a ValidationException.",
    )
    core_dumps: bool = switch(
        False,
        "Let a crash write the memory of processes that hold keys to a file, and other processes of the same "
        "user read it, as debuggers do.",
    )
    lock_memory: bool = switch(
        False,
        "Keep the memory of processes that hold keys out of swap; needs `LimitMEMLOCK=infinity`, and as much "
        "memory as the processes have.",
    )
    gateway: Gateway = group(Gateway)
    audio: Audio = group(Audio)
    quality: Quality = group(Quality)
    enrollment: Enrollment = group(Enrollment)
    registration: Registration = group(Registration)
    fraud: Fraud = group(Fraud)
    live: Live = group(Live)
    scores: Scores = group(Scores)
    jobs: Jobs = group(Jobs)
    quotas: Quotas = group(Quotas)
    rates: Rates = group(Rates)
    events: Events = group(Events)
    audit: Audit = group(Audit)
    console: Console = group(Console)
    log: Log = group(Log)
    deletions: Deletions = group(Deletions)
    backup: Backup = group(Backup)
    metrics: Metrics = group(Metrics)
    traces: Traces = group(Traces)
    postgres: Postgres = group(Postgres)
    s3: S3 = group(S3)
    kms: Kms = group(Kms)
    key_wrapping: KeyWrapping = group(KeyWrapping)
    pkcs11: Pkcs11 = group(Pkcs11)
    ray: Ray = group(Ray)
    carriers: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    """Values of carriers' settings by name, of those that are given; `of_carrier` reads them."""

    def of_carrier(self, kind: type[OfCarrier]) -> OfCarrier:
        """Build the settings that a carrier's module declares; what is not given has its default."""
        names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
        return kind(**{name: value for name, value in self.carriers.items() if name in names})

    @property
    def served_regions(self) -> tuple[str, ...]:
        """All Regions, `region` first."""
        more = (name.strip() for name in self.regions.split(","))
        return tuple(dict.fromkeys((self.region, *filter(None, more))))

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data.absolute() / 'sonant.db'}"

    @property
    def ledger_folder(self) -> Path:
        """The folder of the deletion ledger."""
        return Path(self.deletions.folder) if self.deletions.folder else self.data / "deletions"

    @property
    def embedded(self) -> bool:
        """Whether the database is SQLite in the data folder, for this service alone."""
        return self.database_url.startswith("sqlite:")

    @property
    def assumes_roles(self) -> bool:
        """Whether roles of jobs are those of STS and not Sonant's own."""
        return self.objects == "s3" and self.s3.assume_role

    @property
    def workers(self) -> int:
        """Worker processes of jobs on this machine."""
        return self.jobs.workers or os.cpu_count() or 1
