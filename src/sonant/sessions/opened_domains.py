"""Watches the keys of domains whose voices are in memory, and forgets the voices when a key is taken away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sonant.storage.keys.store import KeysOf
from sonant.storage.opening import is_usable
from sonant.storage.repositories.domains import Domain
from sonant.threads import start_once

#: How often the keys are looked at. A key service answers from afar, and is asked less often.
LOCAL_S, REMOTE_S = 0.5, 60.0


class OpenedDomains:
    """Domains with voices in memory. Safe for several threads.

    A thread looks at their keys as long as there are such domains.
    """

    def __init__(
        self,
        keys_of: KeysOf,
        forget: Callable[[str], object],
        in_memory: Callable[[str], bool],
        *,
        interval_s: float = LOCAL_S,
    ) -> None:
        """`forget` drops what is in memory of a domain's id, `in_memory` says whether there is anything."""
        self._keys_of, self._forget, self._in_memory = keys_of, forget, in_memory
        self._interval_s = interval_s
        self._domains: dict[str, Domain] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, domain: Domain) -> None:
        """Watch a domain whose voices are being opened."""
        with self._lock:
            self._domains[domain.domain_id] = domain
            if self._thread is None or not self._thread.is_alive():
                self._thread = start_once(self._run, "opened domains", failed=self._forget_all)

    def look(self) -> bool:
        """Forget the voices of domains whose keys are not usable; return whether any domain is left."""
        with self._lock:
            watched = list(self._domains.values())
        for domain in watched:
            if not is_usable(self._keys_of(domain.account_id, domain.region), domain.data_key_wrapped):
                self._forget(domain.domain_id)
        with self._lock:
            for domain in watched:
                same = self._domains.get(domain.domain_id) is domain
                if same and not self._in_memory(domain.domain_id):
                    del self._domains[domain.domain_id]
            if not self._domains:
                self._thread = None
            return bool(self._domains)

    def _run(self) -> None:
        while True:
            time.sleep(self._interval_s)
            if not self.look():
                return

    def _forget_all(self, _fault: Exception) -> None:
        with self._lock:
            watched, self._domains, self._thread = list(self._domains), {}, None
        for domain_id in watched:
            self._forget(domain_id)
