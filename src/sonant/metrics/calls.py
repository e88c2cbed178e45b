"""Count calls and decisions in this process."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram

from sonant.errors import Throttling, WireError

#: Upper bounds of the latency histogram, in seconds.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Upper bounds of scores: what answers tell is in bands that begin at these or between them.
SCORE_BUCKETS = (9, 19, 29, 39, 49, 59, 69, 79, 89, 94, 100)
#: Upper bounds of the time from the first audio of a call to a decision, in seconds.
DECISION_BUCKETS_S = (2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0)
#: Codes of the service models' errors, which are there from the start.
_MODELLED_CODES = (
    "AccessDeniedException",
    "ConflictException",
    "InternalServerException",
    "ResourceNotFoundException",
    "ServiceQuotaExceededException",
    "ThrottlingException",
    "ValidationException",
)
#: Decisions of EvaluateSession that are there from the start, by kind.
AUTHENTICATION, FRAUD = "authentication", "fraud"
DECISIONS = {
    AUTHENTICATION: (
        "ACCEPT",
        "REJECT",
        "NOT_ENOUGH_SPEECH",
        "SPEAKER_NOT_ENROLLED",
        "SPEAKER_OPTED_OUT",
        "SPEAKER_ID_NOT_PROVIDED",
        "SPEAKER_EXPIRED",
    ),
    FRAUD: ("HIGH_RISK", "LOW_RISK", "NOT_ENOUGH_SPEECH"),
}


class CallMetrics:
    """Latency and errors by operation. An operation that was never called has no samples."""

    def __init__(self, registry: CollectorRegistry, operations: Iterable[str] = ()) -> None:
        """Register the metrics. Errors of `operations` are counted from 0, others from the first one."""

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, ["operation"], registry=registry)

        self._latency = Histogram(
            "voiceid_request_latency_seconds",
            "Time from the request's last byte to its response (RequestLatency)",
            ["operation"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._user_errors = counter("voiceid_user_errors", "Requests refused as invalid (UserErrors)")
        self._system_errors = counter(
            "voiceid_system_errors", "Requests that failed in the service (SystemErrors)"
        )
        self._throttled = counter("voiceid_throttles", "Requests over the rate limit (Throttles)")
        self._refusals = Counter(
            "sonant_refusals",
            "Requests that were not answered with 200, by error code",
            ["code"],
            registry=registry,
        )
        self._refused_streams = Counter(
            "sonant_streams_refused",
            "Streams of calls that were refused",
            ["carrier", "reason"],
            registry=registry,
        )
        for operation in operations:
            for errors in (self._user_errors, self._system_errors, self._throttled):
                errors.labels(operation)
        for code in _MODELLED_CODES:
            self._refusals.labels(code)

    def count_refusal(self, carrier: str, reason: str) -> None:
        """Count a refused stream. Both are fixed words, never text of the caller."""
        self._refused_streams.labels(carrier, reason).inc()

    def observe(self, operation: str, seconds: float, error: WireError | None) -> None:
        """Count a call. `operation` is a name of the service model, never text of the caller."""
        self._latency.labels(operation).observe(seconds)
        if error is None:
            return
        self._refusals.labels(error.code).inc()
        if isinstance(error, Throttling):
            self._throttled.labels(operation).inc()
        elif error.http_status >= 500:
            self._system_errors.labels(operation).inc()
        else:
            self._user_errors.labels(operation).inc()


class DecisionMetrics:
    """New decisions of EvaluateSession: their kinds, scores, and the time that they took.

    Scores are whole numbers without names: a histogram of many tells nothing of a voice.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics, each decision from 0."""
        self._decisions = Counter(
            "sonant_decisions", "New decisions of EvaluateSession", ["kind", "decision"], registry=registry
        )
        self._scores = Histogram(
            "sonant_decision_score",
            "Scores of new decisions: of authentications, and the greater risk of fraud detections",
            ["kind"],
            buckets=SCORE_BUCKETS,
            registry=registry,
        )
        self._seconds = Histogram(
            "sonant_decision_seconds",
            "Time from the first audio of the call to a new decision with a score",
            ["kind"],
            buckets=DECISION_BUCKETS_S,
            registry=registry,
        )
        for kind, decisions in DECISIONS.items():
            for decision in decisions:
                self._decisions.labels(kind, decision)
            self._scores.labels(kind)
            self._seconds.labels(kind)

    def observe(self, kind: str, decision: str, score: int | None, seconds: float | None) -> None:
        """Count a decision; `score` and `seconds` are None for one without."""
        self._decisions.labels(kind, decision).inc()
        if score is not None:
            self._scores.labels(kind).observe(score)
            if seconds is not None:
                self._seconds.labels(kind).observe(max(0.0, seconds))
