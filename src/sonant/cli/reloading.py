"""SIGHUP of a service: read the settings again, use what can change while it runs, and name the rest."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

from sonant import logs, systemd
from sonant.errors import SonantError
from sonant.gateway.tls import Certificate
from sonant.settings import Settings
from sonant.settings.loading import in_force

log = logging.getLogger(__name__)

#: Settings that are used as soon as they are read again. The certificate's files are read again, too.
RELOADED = ("log.level", "log.form")


def reload_settings(
    load: Callable[[], Settings], former: Settings, certificate: Certificate | None
) -> Settings:
    """Read the settings again and return them; the former ones where they cannot be read.

    Uses those of RELOADED and a changed certificate at once, and logs which others wait for a restart.
    """
    systemd.notify_reloading()
    try:
        read = load()
        logs.configure(read.log.level, read.log.form)
        if certificate is not None:
            certificate.reload()
        before, after = in_force(former), in_force(read)
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        waiting = sorted(changed - set(RELOADED))
        log.warning(
            "the settings were read again%s",
            f"; these take effect with the next start: {', '.join(waiting)}" if waiting else "",
        )
        return read
    except SonantError as fault:
        log.error("the settings were not read again, the former ones stay: %s", fault)
        return former
    finally:
        systemd.notify(systemd.READY)


def reload_on_hangup(
    load: Callable[[], Settings], settings: Settings, certificate: Certificate | None
) -> None:
    """Reload at each SIGHUP from now on. On a terminal the signal means that the terminal is gone: then the
    service stops as at SIGTERM."""
    if sys.stdin is not None and sys.stdin.isatty():
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
        return
    present = settings

    def reload(*_: object) -> None:
        nonlocal present
        present = reload_settings(load, present, certificate)

    signal.signal(signal.SIGHUP, reload)
