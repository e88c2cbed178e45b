"""Request rates: a token bucket for each account, Region and operation (AWS docs, Connect API throttling
quotas)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from sonant.errors import Throttling
from sonant.settings import Rates
from sonant.token_bucket import TokenBucket

#: Which rate of the settings holds for which operations.
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
        "ListSessions",
    ),
}

#: A bucket holds one second's worth of calls, and at least this many.
LEAST_BURST = 5.0
#: Buckets kept at most: accounts times Regions times operations, bounded against a flood of accounts.
MOST_BUCKETS = 100_000


def rates_per_s(rates: Rates, own: Iterable[str]) -> dict[str, float]:
    """The rate of every operation; `own` are the operations of Sonant's own model."""
    found = dict.fromkeys(own, rates.sonant_operations)
    found.update({name: getattr(rates, group) for group, names in GROUPS.items() for name in names})
    return {name: rate * rates.factor for name, rate in found.items()}


#: (account, Region, operation, calls a second, most calls at once): whether there was a call left.
Shared = Callable[[str, str, str, float, float], bool]


class Throttle:
    """`take` spends one call. `rates_per_s` maps operation names to calls a second; 0 means no limit."""

    def __init__(
        self,
        rates_per_s: Mapping[str, float],
        monotonic_s: Callable[[], float],
        shared: Shared | None = None,
    ) -> None:
        """`shared` has the last word, where other processes answer calls of the same accounts. What this
        process alone has had too much of is refused without asking it."""
        self._rates = rates_per_s
        self.monotonic_s = monotonic_s
        self._shared = shared
        self._buckets: dict[tuple[str, str, str], TokenBucket] = {}
        self._lock = threading.Lock()

    def take(self, account_id: str, operation: str, region: str = "") -> None:
        """Raises Throttling when the account's bucket for this operation, in this Region, is empty."""
        rate = self._rates.get(operation, 0.0)
        if not rate:
            return
        size = max(rate, LEAST_BURST)
        self._take_own((account_id, region, operation), rate, size)
        if self._shared is not None and not self._shared(account_id, region, operation, rate, size):
            raise Throttling("Rate exceeded")

    def _take_own(self, place: tuple[str, str, str], rate: float, size: float) -> None:
        now_s = self.monotonic_s()
        with self._lock:
            bucket = self._buckets.get(place)
            if bucket is None:
                if len(self._buckets) >= MOST_BUCKETS:
                    self._buckets.clear()
                bucket = self._buckets[place] = TokenBucket(rate, size, now_s)
            if not bucket.take(now_s):
                raise Throttling("Rate exceeded")
