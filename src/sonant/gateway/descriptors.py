"""Plan the file descriptors of a service: how many connections may take, and how many stay in reserve."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

from sonant.errors import SetupError
from sonant.gateway.connections import ConnectionLimits
from sonant.gateway.forwarded import trusted_networks
from sonant.settings import Settings
from sonant.thread_plan import plan_threads

#: Descriptors for the program itself, its log, its sockets, the audit trail, and files that are read.
BASE_RESERVE = 128
#: Descriptors of a thread: three files of its SQLite connection and one of whatever it does, or one to a
#: server and as many again to stores and key services.
PER_THREAD = 4
#: Most connections where the setting leaves it to the system, whose limit may be a million.
MOST_BY_DEFAULT = 10_000
#: Limits that are tried where the system says that there is none.
_TRIED = (2 * MOST_BY_DEFAULT, 10_240, 4096, 1024)
#: Fewest connections with which a service starts.
FEWEST = 64


def raise_descriptor_limit() -> int:
    """Raise this process's limit of file descriptors as far as the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _TRIED[0]
    # Some systems say that there is no limit, and allow no more than the second.
    for wanted in _TRIED if hard == resource.RLIM_INFINITY else (hard,):
        if wanted <= soft:
            break
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft


def descriptors_in_use() -> int | None:
    """Count this process's open descriptors; None where the system does not list them."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - names are enough; one is the listing's own
    except OSError:
        return None


def reserve(settings: Settings) -> int:
    """Count the descriptors that a service needs beside its connections."""
    workers = settings.live.workers or os.cpu_count() or 1
    return BASE_RESERVE + PER_THREAD * (plan_threads(settings).total + workers)


def plan_connections(settings: Settings, descriptors: int) -> ConnectionLimits:
    """Limit the connections of a service that may have so many descriptors.

    Raises SetupError when `gateway.max_connections` is more than they allow, or they allow too few.
    """
    kept = reserve(settings)
    highest, wanted = descriptors - kept, settings.gateway.max_connections
    fewest = max(wanted, FEWEST)
    if highest < fewest:
        raise SetupError(
            f"the limit of file descriptors is {descriptors}, of which connections may take "
            f"{max(0, highest)}; {fewest} are wanted: raise the limit (ulimit -n, LimitNOFILE of systemd) to "
            f"{fewest + kept}, or lower gateway.max_connections"
        )
    most = wanted or min(MOST_BY_DEFAULT, highest)
    return ConnectionLimits(
        most=most,
        most_per_address=min(most, settings.gateway.max_connections_per_address or max(1, most // 2)),
        highest_descriptor=highest,
        proxies=trusted_networks(settings.gateway.trusted_proxies),
    )
