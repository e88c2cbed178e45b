"""TLS of the service: the certificate, its reload when it changes, and where plain HTTP may be served."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path

from sonant.addresses import is_loopback
from sonant.errors import SetupError
from sonant.settings import Gateway
from sonant.threads import start_loop

log = logging.getLogger(__name__)

#: How often the files are looked at for a change.
RELOAD_S = 10.0
#: How long `stop` waits for a reload.
STOP_S = 5.0


class Certificate:
    """The certificate and key of the service, in a context that new connections use."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises SetupError for files that do not serve."""
        self._paths = (certificate, key)
        self.context = _new_context()
        self._stamp = self._read_stamp()
        try:
            self._load(self.context)
        except (OSError, ValueError) as fault:
            raise SetupError(f"TLS cannot be served with {certificate} and {key}: {_reason(fault)}") from None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look for changed files from now on, in a thread."""
        self._thread = start_loop(self._run, "certificate")

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def reload(self) -> bool:
        """Load the files if they have changed; connections that are open stay as they are.

        Files that do not serve, such as a certificate whose key is still to come, are tried again the next
        time, and the former ones stay in use until then.
        """
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return False
        try:
            self._load(
                _new_context()
            )  # a context that fails halfway would have a certificate without its key
            self._load(self.context)
        except (OSError, ValueError) as fault:
            log.error(
                "the changed certificate %s is not used yet, the former one is: %s",
                self._paths[0],
                _reason(fault),
            )
            return False
        self._stamp = stamp
        log.warning("the certificate %s was loaded again", self._paths[0])
        return True

    def _run(self) -> None:
        while not self._stop.wait(RELOAD_S):
            self.reload()

    def _load(self, context: ssl.SSLContext) -> None:
        certificate, key = self._paths
        context.load_cert_chain(certificate, key, password=_no_password)

    def _read_stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._paths)


def configured_certificate(settings: Gateway) -> Certificate | None:
    """Return the certificate that the settings name, None without one.

    Raises SetupError for half a pair, and for plain HTTP that other machines reach without a setting that
    allows it.
    """
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise SetupError("set both gateway.tls_certificate and gateway.tls_key, or neither")
    if settings.tls_certificate:
        return Certificate(Path(settings.tls_certificate), Path(settings.tls_key))
    if not settings.plain_http and not is_loopback(settings.host):
        raise SetupError(
            f"the service would serve plain HTTP on {settings.host}, which other machines reach: voices, ids "
            "and session tokens could be read on the way. Set gateway.tls_certificate and gateway.tls_key, "
            "or gateway.plain_http = true when a proxy before it has TLS and nothing else reaches this "
            "address; or listen on 127.0.0.1"
        )
    return None


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> str:
    """Refuse an encrypted key, for which OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted: give it without a passphrase, in a file for its owner alone")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _reason(fault: Exception) -> str:
    if isinstance(fault, ssl.SSLError):
        return (fault.reason or "the files are not a certificate and its key").replace("_", " ").lower()
    return fault.strerror or str(fault) if isinstance(fault, OSError) else str(fault)
