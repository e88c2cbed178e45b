"""The names of domains for the head of pages, looked up once a minute and not with every page."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from sonant.web.page import OperationRefused, PageRequest

_KEPT = timedelta(minutes=1)
_MOST = 1000


class DomainNames:
    """Remembers what DescribeDomain answered to each user. Safe for several threads."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str, str], tuple[str, datetime]] = {}
        self._lock = threading.Lock()

    def of(self, principal_arn: str, request: PageRequest) -> str:
        """Return the name of the page's domain; empty without one, and for a user who may not see it."""
        if "domain" not in request.parameters:
            return ""
        key = (principal_arn, request.region, request.domain_id)
        with self._lock:
            known = self._names.get(key)
        if known is not None and request.now - known[1] < _KEPT:
            return known[0]
        found = request.try_ask("DescribeDomain")
        name = "" if isinstance(found, OperationRefused) else str(found["Domain"]["Name"])
        with self._lock:
            if len(self._names) >= _MOST:
                self._names.clear()
            self._names[key] = (name, request.now)
        return name
