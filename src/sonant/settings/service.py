"""Declare the settings of the service that callers see, and of its operation."""

from __future__ import annotations

from dataclasses import dataclass

from sonant.logs import FORMS, LEVELS
from sonant.settings.declaration import DAY_S, GIB, MIB, choice, number, switch, text

_OWN_ENDPOINT = "Endpoint URL to use instead of AWS's own."


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The HTTP server."""

    host: str = text("127.0.0.1", "Address to listen on.")
    port: int = number(8180, 0, 65_535, "", "Port to listen on; 0 takes a free one.")
    tls_certificate: str = text(
        "",
        "File of the certificate chain (PEM) for TLS; read again when it changes. Empty serves plain HTTP.",
    )
    tls_key: str = text("", "File of the certificate's private key (PEM), not encrypted.")
    plain_http: bool = switch(
        False,
        "Allow plain HTTP on an address other than loopback, as behind a proxy that has TLS.",
    )
    trusted_proxies: str = text(
        "",
        "Addresses or networks, separated by commas, whose `X-Forwarded-For` and `X-Forwarded-Proto` are "
        "believed; empty believes none.",
    )
    url: str = text(
        "",
        "URL at which commands on this machine reach the service; with TLS one with the certificate's host. "
        "Empty means the address that it listens on.",
    )
    max_body_bytes: int = number(
        1 * MIB, 1024, 64 * MIB, "bytes", "Largest request body; a larger one is answered with 413."
    )
    signature_skew_s: float = number(
        300.0,
        1.0,
        DAY_S,
        "seconds",
        "Largest difference between a request's date and now, in both directions.",
    )
    threads: int = number(8, 1, 256, "threads", "Threads for the blocking part of a call.")
    max_waiting: int = number(
        256, 0, 100_000, "calls", "Calls that may wait for a thread; further ones get ThrottlingException."
    )
    comparisons: int = number(
        2,
        1,
        64,
        "recordings",
        "Recordings that CompareRecording analyzes at once, each in a worker process that starts when it is "
        "needed. One account alone uses all but one of them.",
    )
    max_connections: int = number(
        0,
        0,
        1_000_000,
        "connections",
        "Most connections at once; 0 means as many as the limit of file descriptors leaves, at most 10,000. "
        "Beyond it the connection is closed that has kept the service waiting longest.",
    )
    max_connections_per_address: int = number(
        0,
        0,
        1_000_000,
        "connections",
        "Those connections from one address, such as that of a proxy; 0 means half of them.",
    )
    drain_s: float = number(
        0.0,
        0.0,
        DAY_S,
        "seconds",
        "How long calls are still answered after SIGTERM, while `/health/ready` fails.",
    )
    one_core: bool = switch(
        True,
        "Keep the threads of a service on SQLite on one core, where requests are cheapest, until its "
        "first live call; jobs use all cores.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Voice ID's quotas; the defaults are those of the Amazon Connect service quotas."""

    domains_per_account: int = number(3, 1, 1_000_000, "domains", "Active domains of one account.")
    speakers_per_domain: int = number(
        100_000, 1, 100_000_000, "speakers", "Speakers of one domain, whatever their status."
    )
    watchlists_per_domain: int = number(
        3, 1, 10_000, "watchlists", "Watchlists of one domain, the default one included."
    )
    fraudsters_per_watchlist: int = number(500, 1, 100_000, "fraudsters", "Fraudsters on one watchlist.")
    active_sessions_per_domain: int = number(
        50, 1, 1_000_000, "sessions", "Sessions of one domain whose stream is pending or ongoing."
    )
    active_enrollment_jobs_per_domain: int = number(
        1, 1, 10_000, "jobs", "Speaker enrollment jobs that one domain may have active at once."
    )
    active_registration_jobs_per_domain: int = number(
        1, 1, 10_000, "jobs", "Fraudster registration jobs that one domain may have active at once."
    )
    speakers_per_enrollment_job: int = number(
        10_000, 1, 10_000_000, "requests", "Requests in the manifest of one enrollment job."
    )
    fraudsters_per_registration_job: int = number(
        500, 1, 100_000, "requests", "Requests in the manifest of one registration job."
    )
    files_per_request: int = number(10, 1, 1000, "recordings", "Recordings of one request.")
    tags_per_domain: int = number(50, 1, 1000, "tags", "Tags on one domain.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Request rates, for each account and operation; the rate of a group holds for each of its operations."""

    factor: float = number(1.0, 0.0, 10_000.0, "", "Multiplies all rates; 0 switches throttling off.")
    evaluate_session: float = number(60.0, 0.0, 100_000.0, "calls per second", "EvaluateSession.")
    domains_and_jobs: float = number(
        2.0, 0.0, 100_000.0, "calls per second", "Domain operations; start, describe and list of jobs."
    )
    list_speakers: float = number(5.0, 0.0, 100_000.0, "calls per second", "ListSpeakers.")
    speakers_and_fraudsters: float = number(
        10.0,
        0.0,
        100_000.0,
        "calls per second",
        "Describe, opt out and delete a speaker; describe and delete a fraudster.",
    )
    tags: float = number(
        2.0, 0.0, 100_000.0, "calls per second", "TagResource, UntagResource, ListTagsForResource."
    )
    watchlist_reads: float = number(
        10.0,
        0.0,
        100_000.0,
        "calls per second",
        "DescribeWatchlist, AssociateFraudster, DisassociateFraudster.",
    )
    watchlist_lists: float = number(
        5.0, 0.0, 100_000.0, "calls per second", "ListWatchlists, ListFraudsters."
    )
    watchlist_changes: float = number(
        2.0, 0.0, 100_000.0, "calls per second", "Create, update and delete a watchlist."
    )
    sessions: float = number(60.0, 0.0, 100_000.0, "calls per second", "Sonant's session operations.")
    sonant_operations: float = number(
        10.0, 0.0, 100_000.0, "calls per second", "All other operations that Sonant adds to Voice ID's."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Events and their sinks."""

    sinks: str = text(
        "", "Sinks of events, separated by commas: `file`, `webhook`, `eventbridge`; empty records no events."
    )
    keep_days: float = number(7.0, 0.0, 3650.0, "days", "How long events that all sinks have taken are kept.")
    give_up_days: float = number(
        30.0,
        0.0,
        3650.0,
        "days",
        "An event that a sink has not taken for this long is dropped; 0 keeps it for ever.",
    )
    batch: int = number(100, 1, 10_000, "events", "Most events in one delivery.")
    poll_s: float = number(0.5, 0.01, 60.0, "seconds", "How often new events are looked for.")
    retry_first_s: float = number(
        1.0,
        0.01,
        3600.0,
        "seconds",
        "Shortest pause after a failed delivery; it doubles with each further failure.",
    )
    retry_most_s: float = number(300.0, 0.01, DAY_S, "seconds", "Longest pause after a failed delivery.")
    file_max_bytes: int = number(
        64 * MIB, 1024, 16 * GIB, "bytes", "Size at which `events/events.jsonl` becomes `events.jsonl.1`."
    )
    file_keep: int = number(10, 1, 10_000, "files", "Rotated event files that are kept.")
    webhook_url: str = text(
        "", "URL that the `webhook` sink posts events to: `https`, or `http` on loopback."
    )
    webhook_secret: str = text(
        "", "Key of the signatures of webhook requests; at least 16 characters.", secret=True
    )
    # Shorter than the lease of a delivery (`events.dispatcher.LEASE`), so that no other process repeats it.
    webhook_time_limit_s: float = number(10.0, 0.1, 60.0, "seconds", "Time limit of one webhook request.")
    eventbridge_bus: str = text("default", "Name or ARN of the bus of the `eventbridge` sink.")
    eventbridge_endpoint: str = text("", _OWN_ENDPOINT)
    eventbridge_region: str = text("", "Region of the bus; empty means the service's.")
    eventbridge_source: str = text(
        "voiceid", "Source of the events on the bus; AWS reserves those that begin with `aws.`."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The audit trail."""

    enabled: bool = switch(True, "Record every call in `audit` in the data folder.")
    required: bool = switch(
        True, "Fail a changing call that cannot be recorded; false answers it and counts the loss in the log."
    )
    max_file_bytes: int = number(
        64 * MIB,
        1024,
        16 * GIB,
        "bytes",
        "Size of a file after which the next one starts; at midnight UTC one starts in any case.",
    )
    max_waiting: int = number(
        10_000, 1, 10_000_000, "records", "Records that may wait for the disk; a call without room waits."
    )
    unsigned_per_s: float = number(
        20.0,
        0.0,
        100_000.0,
        "calls per second",
        "Failed authentications that are recorded one by one; the rest are counted.",
    )
    sum_polls_s: float = number(
        300.0,
        0.0,
        DAY_S,
        "seconds",
        "Interval in which the calls that an open page repeats are summed to one record; 0 records each.",
    )
    heads_s: float = number(
        60.0,
        1.0,
        DAY_S,
        "seconds",
        "How often the number and hash of the last line are recorded in the database, and sent outside.",
    )
    heads_to: str = text(
        "",
        "Where else they are sent, off this machine, separated by commas: `file:///path` on another mount, "
        "`https://...`, `s3://bucket/prefix` with Object Lock.",
    )
    heads_secret: str = text(
        "", "Key of the signatures of heads sent by `https`; at least 16 characters.", secret=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """The web console."""

    session_s: float = number(
        10 * 3600.0, 60.0, DAY_S, "seconds", "How long a user stays signed in, at most: an agent's shift."
    )
    idle_s: float = number(
        1800.0,
        60.0,
        DAY_S,
        "seconds",
        "How long a user stays signed in without opening a page; an open page of a call counts as used.",
    )
    oidc_issuer: str = text(
        "",
        "Issuer of an OpenID Connect provider that users may sign in with; empty for none. Needs the extra "
        "`oidc`.",
        pattern=r"(https://[^\s?#]+|http://(127\.0\.0\.1|localhost|\[::1\]):[0-9]+[^\s?#]*)?",
        form="the issuer's URL: `https`, or `http` on loopback",
    )
    oidc_client_id: str = text("", "Id of the console as a client of the provider.")
    oidc_client_secret: str = text(
        "", "Secret of that client; empty for a public client, which PKCE alone protects.", secret=True
    )
    oidc_scopes: str = text(
        "openid profile email",
        "What the provider is asked to tell; groups often need a scope of their own.",
        pattern=r"(.* )?openid( .*)?",
        form="scopes separated by spaces, openid among them",
    )
    oidc_groups: str = text("groups", "Claim of the ID token that lists the user's groups.")
    oidc_roles: str = text(
        "",
        "Role of each group: `group=role ARN`, separated by commas. A user gets the role of the first group "
        "here that lists the user; nobody else may sign in with the provider.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The log of services and runners, on the standard error."""

    level: str = choice(
        "info",
        LEVELS,
        "Least severe entries that are logged; with `sonant serve --quiet` it is `warning`.",
    )
    form: str = choice("text", FORMS, "Form of entries: lines of text, or a JSON object a line.")
    requests: float = number(
        1.0,
        0.0,
        1.0,
        "",
        "Share of the requests that succeed which are logged, drawn at random; those that fail always are.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Metrics for Prometheus."""

    enabled: bool = switch(False, "Serve `/metrics`.")
    token: str = text(
        "",
        "Bearer token that scrapers must send; without one `/metrics` needs a loopback address.",
        secret=True,
    )
    cache_s: float = number(
        5.0, 0.0, 3600.0, "seconds", "How long figures counted in the database are reused."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Traces of requests and jobs, sent to an OpenTelemetry collector; needs `sonant[otel]`."""

    endpoint: str = text(
        "",
        "URL of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; spans are sent to "
        "`/v1/traces` under it. Empty sends none.",
        pattern=r"(https?://[^\s/?#]+[^\s?#]*)?",
        form="a URL that begins with http:// or https://",
    )
    headers: str = text(
        "",
        "Headers that the collector asks for, such as `authorization=Bearer TOKEN`; several are separated by "
        "commas.",
        secret=True,
    )
    share: float = number(
        1.0,
        0.0,
        1.0,
        "",
        "Share of the traces that are sent, drawn at random; a caller that sends `traceparent` has decided "
        "for its own.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletions:
    """The ledger of deletions and opt-outs, from which a restore repeats them."""

    ledger: bool = switch(
        True,
        "Record every deletion and opt-out outside the database, as keyed hashes; one that cannot be "
        "recorded fails.",
    )
    folder: str = text(
        "",
        "Folder of the ledger; empty means `deletions` in the data folder. Backups do not contain it: best "
        "on another disk than the database.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """Backups that `sonant backup` makes."""

    most_days: float = number(
        7.0,
        0.0,
        3650.0,
        "days",
        "Age of the last backup from which `sonant doctor` asks for another; 0 when backups are made by "
        "other means.",
    )
