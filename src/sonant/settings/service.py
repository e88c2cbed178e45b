"""Declare the settings of the service that callers see, and of its operation."""

from __future__ import annotations

from dataclasses import dataclass

from sonant.settings.declaration import DAY_S, GIB, MIB, number, switch, text

_OWN_ENDPOINT = "Endpoint URL to use instead of AWS's own."


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The HTTP server."""

    host: str = text("127.0.0.1", "Address to listen on.")
    port: int = number(8180, 0, 65_535, "", "Port to listen on; 0 takes a free one.")
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
    webhook_url: str = text("", "URL that the `webhook` sink posts events to; `http` or `https`.")
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
