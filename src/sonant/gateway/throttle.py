"""Rate limits: a token bucket for each account, Region and operation (AWS docs, Connect API throttling
quotas)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from sonant.errors import Throttling
from sonant.settings import Rates
from sonant.token_bucket import TokenBucket

#: Operations by the setting of their rate.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "evaluate_session": ("EvaluateSession",),
    "domains_and_jobs": (
        "CreateDomain",
        "DescribeDomain",
        "UpdateDomain",
        "DeleteDomain",
        "ListDomains",
        "StartSpeakerEnrollmentJob",
        "DescribeSpeakerEnrollmentJob",
        "ListSpeakerEnrollmentJobs",
        "StartFraudsterRegistrationJob",
        "DescribeFraudsterRegistrationJob",
        "ListFraudsterRegistrationJobs",
    ),
    "list_speakers": ("ListSpeakers",),
    "speakers_and_fraudsters": (
        "DescribeSpeaker",
        "OptOutSpeaker",
        "DeleteSpeaker",
        "DescribeFraudster",
        "DeleteFraudster",
    ),
    "tags": ("TagResource", "UntagResource", "ListTagsForResource"),
    "watchlist_reads": ("DescribeWatchlist", "AssociateFraudster", "DisassociateFraudster"),
    "watchlist_lists": ("ListWatchlists", "ListFraudsters"),
    "watchlist_changes": ("CreateWatchlist", "UpdateWatchlist", "DeleteWatchlist"),
    "sessions": (
        "StartSession",
        "UpdateSession",
        "DescribeSession",
        "EnrollBySession",
        "EndStream",
        "RestartStream",
        "ListSessions",
    ),
}

#: A bucket holds the requests of one second, and at least this many.
LEAST_BURST = 5.0
#: Most buckets (accounts times Regions times operations), a bound against a flood of accounts.
MAX_BUCKETS = 100_000


def rates_per_s(rates: Rates, own: Iterable[str]) -> dict[str, float]:
    """Return the rate of every operation; `own` are the operations of Sonant's own model."""
    found = dict.fromkeys(own, rates.sonant_operations)
    found.update({name: getattr(rates, group) for group, names in GROUPS.items() for name in names})
    return {name: rate * rates.factor for name, rate in found.items()}


#: Takes a token from the bucket of (account, Region, operation, requests per second, bucket size) and returns
#: whether one was left.
SharedBuckets = Callable[[str, str, str, float, float], bool]


class Throttle:
    """Enforces the rates. `rates_per_s` maps operation names to requests per second; 0 means no limit."""

    def __init__(
        self,
        rates_per_s: Mapping[str, float],
        monotonic_s: Callable[[], float],
        shared: SharedBuckets | None = None,
    ) -> None:
        """`shared` are buckets shared with other processes that serve the same accounts. A request over this
        process's own limit is refused without a look at them."""
        self._rates = rates_per_s
        self.monotonic_s = monotonic_s
        self._shared = shared
        self._buckets: dict[tuple[str, str, str], TokenBucket] = {}
        self._lock = threading.Lock()

    @property
    def bucket_count(self) -> int:
        """How many buckets there are."""
        return len(self._buckets)

    def take(self, account_id: str, operation: str, region: str = "") -> None:
        """Take a token. Raises Throttling if the bucket of account, operation and Region is empty."""
        rate = self._rates.get(operation, 0.0)
        if not rate:
            return
        size = max(rate, LEAST_BURST)
        self._take_local((account_id, region, operation), rate, size)
        if self._shared is not None and not self._shared(account_id, region, operation, rate, size):
            raise Throttling("Rate exceeded")

    def _take_local(self, key: tuple[str, str, str], rate: float, size: float) -> None:
        now_s = self.monotonic_s()
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is None:
                if len(self._buckets) >= MAX_BUCKETS:
                    self._buckets.clear()
                bucket = self._buckets[key] = TokenBucket(rate, size, now_s)
            if not bucket.take(now_s):
                raise Throttling("Rate exceeded")
