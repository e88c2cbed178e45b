"""Declare the settings of databases, stores and clusters outside the data folder."""

from __future__ import annotations

from dataclasses import dataclass

from sonant.settings.declaration import DAY_S, number, switch, text

_RAY_ADDRESS = r"auto|[^/:]+:\d{1,5}|\[[^/]+\]:\d{1,5}"
_OWN_ENDPOINT = "Endpoint URL to use instead of AWS's own."
_CA_BUNDLE = (
    "File of CA certificates that the endpoint's certificate must chain to; empty means the system's."
)
_KEY_ID = (
    "Access key of the service; empty means the one of the environment, a profile or the machine's role."
)
_CONNECT_TIMEOUT = "Time limit for opening a connection."
_ATTEMPTS = "Attempts at one request, with growing pauses between them."


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """PostgreSQL, when it is the database; time limits of 0 mean none."""

    connections: int = number(
        0,
        0,
        10_000,
        "connections",
        "Most connections of one process; 0 means one for each thread that may need one, which is "
        "`gateway.threads`, `gateway.comparisons` and 21.",
    )
    connect_timeout_s: float = number(5.0, 0.0, 300.0, "seconds", _CONNECT_TIMEOUT)
    statement_timeout_s: float = number(
        30.0, 0.0, DAY_S, "seconds", "A statement that takes longer is rolled back."
    )
    lock_timeout_s: float = number(
        10.0, 0.0, DAY_S, "seconds", "A statement that waits longer for a lock is rolled back."
    )
    idle_timeout_s: float = number(
        60.0, 0.0, DAY_S, "seconds", "A transaction idle for this long is rolled back."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """The S3 behind `objects = "s3"`."""

    endpoint: str = text("", _OWN_ENDPOINT)
    region: str = text("", "Region of the buckets; empty means the service's.")
    path_style: bool = switch(
        False, "Write the bucket into the path instead of the host name, as most servers but AWS's want it."
    )
    ca_bundle: str = text("", _CA_BUNDLE)
    access_key_id: str = text("", _KEY_ID)
    secret_access_key: str = text("", "Secret of the access key.", secret=True)
    assume_role: bool = switch(
        True,
        "Use buckets with the credentials that STS gives for a job's DataAccessRoleArn; false uses the "
        "service's own, and the policies of Sonant's role of that name decide.",
    )
    sts_endpoint: str = text("", "Endpoint URL of STS to use instead of AWS's own.")
    session_s: float = number(3600.0, 1800.0, 43_200.0, "seconds", "Lifetime of a role's credentials.")
    attempts: int = number(5, 1, 20, "attempts", _ATTEMPTS)
    connect_timeout_s: float = number(5.0, 0.1, 300.0, "seconds", _CONNECT_TIMEOUT)
    read_timeout_s: float = number(30.0, 0.1, 3600.0, "seconds", "Longest silence of a connection.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kms:
    """The key service behind `keys = "aws-kms"`."""

    endpoint: str = text("", _OWN_ENDPOINT)
    region: str = text("", "Region of the keys; empty means the service's.")
    ca_bundle: str = text("", _CA_BUNDLE)
    access_key_id: str = text("", _KEY_ID)
    secret_access_key: str = text("", "Secret of the access key.", secret=True)
    cache_s: float = number(
        5.0,
        0.0,
        3600.0,
        "seconds",
        "How long an opened data key is reused, and so the longest that a key still works after it was "
        "disabled or taken away; 0 asks the key store every time.",
    )
    grantee: str = text(
        "",
        "ARN of the principal that Sonant runs as: each domain makes a grant for it, retired when the domain "
        "is erased; empty makes no grants, and the key policy must let Sonant use the key.",
    )
    attempts: int = number(3, 1, 20, "attempts", _ATTEMPTS)
    connect_timeout_s: float = number(2.0, 0.1, 300.0, "seconds", _CONNECT_TIMEOUT)
    read_timeout_s: float = number(5.0, 0.1, 300.0, "seconds", "Time limit of an answer.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11:
    """The token (hardware security module) behind `keys = "pkcs11"`. `kms.cache_s` holds for it, too."""

    module: str = text("", "The module's library: a file such as `/usr/lib/softhsm/libsofthsm2.so`.")
    token: str = text("", "Label of the token.")
    pin: str = text("", "PIN of the user.", secret=True)
    pin_file: str = text("", "File that holds the PIN instead; it is read whenever the token is opened.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ray:
    """The Ray cluster behind `engine = "ray"`."""

    address: str = text(
        "",
        "The cluster: `host:port` of its head node, or `auto` for the one that the runner's host belongs to. "
        "Sonant starts none.",
        pattern=f"|{_RAY_ADDRESS}",
        form="host:port of a Ray cluster's head node, or auto for the cluster that this host belongs to",
    )
    namespace: str = text("sonant", "Ray namespace of Sonant's actors.")
    workers: int = number(
        0,
        0,
        100_000,
        "actors",
        "Most actors of one runner, each with one CPU; 0 means as many as the cluster has CPUs.",
    )
    gpus_per_worker: float = number(
        0.0,
        0.0,
        64.0,
        "GPUs",
        "GPUs of each actor, 0.25 for four actors on one; 0 uses none. Added voice models run there, those "
        "that ship with Sonant on the CPU; the hosts need onnxruntime-gpu.",
    )
    idle_s: float = number(300.0, 0.0, DAY_S, "seconds", "Actors idle for this long give their CPUs back.")
