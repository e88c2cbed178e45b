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
from sonant.settings.loading import as_flags

log = logging.getLogger(__name__)

#: Settings that are used as soon as they are read again. The certificate's files are read again, too.
RELOADED = ("log.level", "log.form")


def reload_settings(
    load: Callable[[], Settings], started: Settings, certificate: Certificate | None
) -> Settings:
    """Read the settings again and return them; those of the start where they cannot be read.

    Uses those of RELOADED and a changed certificate at once, and logs which others wait for a restart: all
    that differ from the start, whichever reload has read them first. Nothing that a file holds stops the
    service, since this runs in the signal's handler.
    """
    systemd.notify_reloading()
    try:
        read = load()
        logs.configure(read.log.level, read.log.form)
        if certificate is not None:
            certificate.reload()
        # Not the masked form of the log: a changed secret waits, too.
        before, after = as_flags(started), as_flags(read)
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        waiting = sorted(changed - set(RELOADED))
        log.warning(
            "the settings were read again%s",
            f"; these take effect with the next start: {', '.join(waiting)}" if waiting else "",
        )
        return read
    except SonantError as fault:
        log.error("the settings were not read again, the former ones stay: %s", fault)
        return started
    except Exception:
        log.exception("the settings were not read again, the former ones stay")
        return started
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

    def reload(*_: object) -> None:
        reload_settings(load, settings, certificate)

    signal.signal(signal.SIGHUP, reload)
