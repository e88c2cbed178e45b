"""All settings in one frozen value. Limits and defaults stand here once; every other module receives the part
it needs. Where values come from, `settings_sources` says.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """What recordings are accepted."""

    strict: bool = False
    """Accept only what Voice ID did: WAV, 16-bit PCM, 8 kHz, one or two channels."""
    max_file_bytes: int = 20 * MIB
    """Largest recording read; larger ones are refused before they are opened."""
    max_duration_s: float = 4 * 3600.0
    """Longest recording read, whatever its size: guards against compressed bombs."""
    keep: bool = True
    """Keep a sealed copy of the speech a voiceprint was made from, so that it can be made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """What an enrollment needs."""

    net_speech_s: float = 30.0
    """Net speech needed, and the most that is used, in seconds."""
    risk_threshold: int = 50
    """RiskThreshold of jobs that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What the registration of a fraudster needs."""

    net_speech_s: float = 30.0
    """Net speech needed, and the most that is used, in seconds."""
    similarity_threshold: int = 50
    """FraudsterSimilarityThreshold of jobs that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraud:
    """What fraud detection may cost."""

    spoofing_max_s: float = 10.0
    """Speech of a recording that is searched for signs of synthesis, in seconds; 0 switches that off."""
    spoofing_windows: int = 1
    """Windows of 4 s that the large spoofing network hears when the small detector is in doubt; 0: never."""
    replay_recordings: int = 100_000
    """Recordings of a domain that the replay guard remembers while a job runs, and from its first live call
    on, the newest, 4 kB each; 0 switches the guard off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Live calls."""

    workers: int = 0
    """Processes that embed what is heard in calls, started with the first call; 0 means one a core. With two
    or more, one is always left to authentication."""
    acceptance_threshold: int = 90
    """AcceptanceThreshold of sessions that name none."""
    risk_threshold: int = 50
    """RiskThreshold of sessions that name none."""
    authentication_speech_s: float = 10.0
    """Net speech that authentication needs in sessions that name none, 5 to 10 seconds."""
    fraud_speech_s: float = 10.0
    """Net speech that fraud detection needs, in seconds."""
    idle_s: float = 60.0
    """A stream that brings no audio for so long is ended; so is one that never began."""
    max_stream_s: float = 4 * 3600.0
    """Longest call that is listened to."""
    max_streams: int = 1000
    """Connections that one process takes audio from at once."""
    max_streams_per_account: int = 500
    """Of these, for one account."""
    keep_h: float = 24.0
    """Hours for which a session is kept after its last stream has ended."""
    drain_s: float = 0.0
    """After SIGTERM, and after `wire.drain_s`, calls that are listened to may go on for so long."""
    keep_audio: bool = False
    """Keep the speech that results were made from, sealed, for as long as the session."""
    twilio_token: str = field(default="", repr=False)
    """Auth token of the Twilio account whose media streams are taken; empty takes none."""
    twilio_url: str = ""
    """URL of the stream as Twilio was told it, for its signature; empty: as the request came."""
    audiohook_key: str = field(default="", repr=False)
    """API key of the Genesys AudioHook integration whose calls are taken; empty takes none."""
    audiohook_secret: str = field(default="", repr=False)
    """Client secret of that integration, base64; with it requests must be signed."""
    asterisk_user: str = ""
    """User name that Asterisk's WebSocket channel signs in with; empty takes none."""
    asterisk_password: str = field(default="", repr=False)
    """Its password; at least 16 characters."""
    audiosocket_port: int = 0
    """TCP port for Asterisk's AudioSocket, on the host the service listens on; 0 opens none."""
    domain: str = ""
    """Domain of calls whose carrier cannot name one (AudioSocket), and of those that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The batch engine."""

    workers: int = 0
    """Processes that decode and embed; 0 means one a core."""
    max_manifest_bytes: int = 64 * MIB
    """Largest manifest; a larger one fails its job."""
    max_manifest_depth: int = 16
    """Nesting allowed in a manifest; a legal one has five levels."""
    time_limit_s: float = 24 * 3600.0
    """A job still running after this long ends FAILED, so that it cannot hold its slot for ever."""
    entry_time_limit_s: float = 120.0
    """A request whose audio is still being worked on after this long fails with 500."""
    poll_s: float = 0.25
    """How often a runner looks for a new job."""
    lease_s: float = 20.0
    """A runner that has not been heard of for so long counts as dead; another takes its job over."""
    beside_service: bool = True
    """`sonant serve` looks after a runner of its own; false leaves jobs to `sonant worker`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Voice ID's default quotas (Amazon Connect service quotas)."""

    domains_per_account: int = 3
    """Active domains of one account."""
    speakers_per_domain: int = 100_000
    """Speakers of one domain, whatever their status."""
    watchlists_per_domain: int = 3
    """Watchlists of one domain, the default one included."""
    fraudsters_per_watchlist: int = 500
    """Fraudsters on one watchlist."""
    active_sessions_per_domain: int = 50
    """Sessions of one domain whose stream is pending or ongoing."""
    active_enrollment_jobs_per_domain: int = 1
    """Speaker enrollment jobs that one domain may run at once."""
    active_registration_jobs_per_domain: int = 1
    """Fraudster registration jobs that one domain may run at once."""
    speakers_per_enrollment_job: int = 10_000
    """Requests in the manifest of one enrollment job."""
    fraudsters_per_registration_job: int = 500
    """Requests in the manifest of one registration job."""
    files_per_request: int = 10
    """Recordings of one request."""
    tags_per_domain: int = 50
    """Tags on one domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Calls a second, for each account and operation; a group's figure holds for each of its operations."""

    factor: float = 1.0
    """Multiplies all rates; 0 switches throttling off."""
    evaluate_session: float = 60.0
    """EvaluateSession."""
    domains_and_jobs: float = 2.0
    """Domain operations; start, describe and list of jobs."""
    list_speakers: float = 5.0
    """ListSpeakers."""
    speakers_and_fraudsters: float = 10.0
    """Describe, opt out and delete a speaker; describe and delete a fraudster."""
    tags: float = 2.0
    """TagResource, UntagResource, ListTagsForResource."""
    watchlist_reads: float = 10.0
    """DescribeWatchlist, AssociateFraudster, DisassociateFraudster."""
    watchlist_lists: float = 5.0
    """ListWatchlists, ListFraudsters."""
    watchlist_changes: float = 2.0
    """Create, update and delete a watchlist."""
    sessions: float = 60.0
    """Sonant's own operations on sessions."""
    own: float = 10.0
    """Sonant's other own operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """The HTTP front."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8180
    """Port to listen on; 0 takes a free one."""
    max_body_bytes: int = 1 * MIB
    """Largest request body; larger ones are answered with 413."""
    signature_skew_s: float = 300.0
    """How far a request's date may lie from now, in both directions."""
    threads: int = 8
    """Threads that do the blocking part of a call."""
    max_waiting: int = 256
    """Calls that may wait for a thread; more are told to come back."""
    drain_s: float = 0.0
    """After SIGTERM `/health/ready` says no, calls are answered for so long, and the service ends."""
    one_core: bool = True
    """Keep the threads of a service on SQLite on one core, where calls are cheapest; jobs use all cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What is told to others, and how."""

    sinks: str = ""
    """Where events go, separated by commas: `file`, `webhook`, `eventbridge`; empty keeps no events."""
    keep_days: float = 7.0
    """Days for which events that all sinks have taken are kept."""
    give_up_days: float = 30.0
    """An event that a sink has not taken after so many days is dropped; 0 keeps it for ever."""
    batch: int = 100
    """Events given to a sink at once."""
    poll_s: float = 0.5
    """How often new events are looked for."""
    retry_first_s: float = 1.0
    """Pause after a delivery that failed; it doubles with every further failure."""
    retry_most_s: float = 300.0
    """Longest pause between attempts."""
    file_max_bytes: int = 64 * MIB
    """`events/events.jsonl` in the data folder is put aside as `events.jsonl.1` at this size."""
    file_keep: int = 10
    """How many put-aside files are kept."""
    webhook_url: str = ""
    """Where the `webhook` sink posts events; `http` or `https`."""
    webhook_secret: str = field(default="", repr=False)
    """Key of the signatures that webhook requests carry; at least 16 characters."""
    webhook_time_limit_s: float = 10.0
    """How long one webhook request may take."""
    eventbridge_bus: str = "default"
    """Name or ARN of the bus that the `eventbridge` sink puts events on."""
    eventbridge_endpoint: str = ""
    """Endpoint URL instead of AWS's own."""
    eventbridge_region: str = ""
    """Region of the bus; empty means the service's own."""
    eventbridge_source: str = "voiceid"
    """Source of events on the bus; AWS takes none that begins with `aws.`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The audit trail."""

    enabled: bool = True
    """Record every call in `audit` in the data folder."""
    required: bool = True
    """A changing call that cannot be recorded fails; false answers it and counts the loss in the log."""
    max_file_bytes: int = 64 * MIB
    """A file is followed by the next at this size, and at midnight UTC."""
    max_waiting: int = 10_000
    """Records that may wait for the disk; a call that finds no room waits."""
    unsigned_per_s: float = 20.0
    """Calls that failed authentication of which so many a second are recorded; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Measurements for Prometheus."""

    enabled: bool = False
    """Serve `/metrics`."""
    token: str = field(default="", repr=False)
    """Bearer token that a scraper must show; without one only a service on a loopback address serves them."""
    cache_s: float = 5.0
    """What is counted in the database is counted at most this often, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """PostgreSQL, if that is the database; time limits of 0 mean none."""

    connections: int = 0
    """Connections that one process opens at most; 0 means one for each thread that may need
    one, which is `wire.threads` and 22."""
    connect_timeout_s: float = 5.0
    """How long a process waits for a connection."""
    statement_timeout_s: float = 30.0
    """A statement that takes longer is undone."""
    lock_timeout_s: float = 10.0
    """A statement that waits longer for another's lock is undone."""
    idle_timeout_s: float = 60.0
    """A transaction in which nothing happens for so long is undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """The S3 behind `objects = "s3"`."""

    endpoint: str = ""
    """Endpoint URL instead of AWS's own."""
    region: str = ""
    """Region of the buckets; empty means the service's own."""
    path_style: bool = False
    """Write buckets into the path and not into the host name, as most servers other than AWS's want it."""
    ca_bundle: str = ""
    """File of certificates that the endpoint's must lead to; empty means the usual ones."""
    access_key_id: str = ""
    """Access key of the service; empty means what the environment, a profile or the machine's role gives."""
    secret_access_key: str = field(default="", repr=False)
    """Secret of the access key."""
    assume_role: bool = True
    """Use buckets with credentials of a job's DataAccessRoleArn, from STS; false uses the service's own, and
    the policies of Sonant's role of that name judge."""
    sts_endpoint: str = ""
    """Endpoint URL of STS instead of AWS's own."""
    session_s: float = 3600.0
    """How long credentials of a role hold before they are fetched anew."""
    attempts: int = 5
    """Tries of one request; pauses between them grow."""
    connect_timeout_s: float = 5.0
    """How long a connection may take to come about."""
    read_timeout_s: float = 30.0
    """How long a connection may stay silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kms:
    """The key service behind `keys = "aws-kms"`."""

    endpoint: str = ""
    """Endpoint URL instead of AWS's own."""
    region: str = ""
    """Region of the keys; empty means the service's own."""
    ca_bundle: str = ""
    """File of certificates that the endpoint's must lead to; empty means the usual ones."""
    access_key_id: str = ""
    """Access key of the service; empty means what the environment, a profile or the machine's role gives."""
    secret_access_key: str = field(default="", repr=False)
    """Secret of the access key."""
    cache_s: float = 5.0
    """How long an opened data key serves before KMS is asked again, and so the longest for which a key that
    was disabled or taken away still works; 0 asks every time."""
    grantee: str = ""
    """ARN of the principal that Sonant runs as: each domain makes a grant for it, retired when the domain is
    erased; empty makes no grants, and the key policy must let Sonant use the key."""
    attempts: int = 3
    """Tries of one request; pauses between them grow."""
    connect_timeout_s: float = 2.0
    """How long a connection may take to come about."""
    read_timeout_s: float = 5.0
    """How long an answer may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11:
    """The token behind `keys = "pkcs11"`: a hardware security module. `kms.cache_s` holds for it, too."""

    module: str = ""
    """The module's library: a file such as `/usr/lib/softhsm/libsofthsm2.so`."""
    token: str = ""
    """The token's label."""
    pin: str = field(default="", repr=False)
    """The user's PIN."""
    pin_file: str = ""
    """File that holds the PIN instead; it is read again whenever the token is opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ray:
    """The Ray cluster behind `engine = "ray"`."""

    address: str = ""
    """The cluster: `host:port` of its head node, or `auto` for the one that the runner's host belongs to.
    None is ever started."""
    namespace: str = "sonant"
    """Name that sets Sonant's actors apart from others in the cluster."""
    workers: int = 0
    """Most actors of one runner, each with one CPU; 0 means as many as the cluster has CPUs."""
    gpus_per_worker: float = 0.0
    """GPUs that each actor asks for, 0.25 for four actors on one; 0 uses none. Voice models that were added
    run there, those that ship with Sonant on the CPU; the hosts need onnxruntime-gpu."""
    idle_s: float = 300.0
    """Actors without work for so long give their CPUs back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set."""

    data: Path = Path("sonant-data")
    """The data folder: database, buckets, keys, credentials."""
    region: str = "us-east-1"
    """Region of ARNs and of signatures."""
    regions: str = ""
    """Further Regions that calls may be signed for, separated by commas; each has domains, quotas and request
    rates of its own."""
    account: str = "000000000000"
    """Account of the first access key, in ARNs."""
    database: str = field(default="", repr=False)
    """Database URL: `postgresql://user:password@host/name`; empty means SQLite in the data folder."""
    objects: str = "local"
    """What `s3://bucket/key` means: `local` is a folder a bucket under `buckets` in the data folder, `s3` is
    any S3."""
    keys: str = "local"
    """Where keys live: `local` is the folder `keys` in the data folder, `aws-kms` is AWS KMS, `pkcs11`
    a PKCS#11 token."""
    engine: str = "local"
    """Where jobs process recordings: `local` is worker processes on the runner's machine, `ray` is a Ray
    cluster. Calls are always heard on the machine that answers them."""
    biometric_consent: bool = True
    """The account accepts the biometric privacy notice; without it no domain can be made."""
    last_watchlist_conflict: bool = True
    """Taking a fraudster off its last watchlist is a conflict; false makes it a ValidationException."""
    wire: Wire = field(default_factory=Wire)
    audio: Audio = field(default_factory=Audio)
    enrollment: Enrollment = field(default_factory=Enrollment)
    registration: Registration = field(default_factory=Registration)
    fraud: Fraud = field(default_factory=Fraud)
    live: Live = field(default_factory=Live)
    jobs: Jobs = field(default_factory=Jobs)
    quotas: Quotas = field(default_factory=Quotas)
    rates: Rates = field(default_factory=Rates)
    events: Events = field(default_factory=Events)
    audit: Audit = field(default_factory=Audit)
    metrics: Metrics = field(default_factory=Metrics)
    postgres: Postgres = field(default_factory=Postgres)
    s3: S3 = field(default_factory=S3)
    kms: Kms = field(default_factory=Kms)
    pkcs11: Pkcs11 = field(default_factory=Pkcs11)
    ray: Ray = field(default_factory=Ray)

    @property
    def served_regions(self) -> tuple[str, ...]:
        """All Regions, `region` first."""
        more = (name.strip() for name in self.regions.split(","))
        return tuple(dict.fromkeys((self.region, *filter(None, more))))

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data.absolute() / 'sonant.db'}"

    @property
    def embedded(self) -> bool:
        """Everything lies in the data folder, which this service alone may use."""
        return self.database_url.startswith("sqlite:")

    @property
    def assumes_roles(self) -> bool:
        """Roles of jobs are those of STS, not those of Sonant."""
        return self.objects == "s3" and self.s3.assume_role

    @property
    def workers(self) -> int:
        return self.jobs.workers or os.cpu_count() or 1
