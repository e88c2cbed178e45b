"""Tell requests of the console's own pages from those that another site's page had a browser send.

Browsers set these headers; a page cannot (Fetch Metadata Request Headers, W3C; RFC 6454, section 7). Programs
that are no browsers send neither and carry no one's cookies by accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

#: `none`: the user has caused it, such as by reloading the page after a form was sent.
_OWN_SITES = frozenset((b"same-origin", b"none"))


def is_cross_site(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether a request that changes something comes from another site's page.

    Names of headers are in lower case. `Sec-Fetch-Site` decides where a browser sends it (over HTTPS and to
    loopback addresses), else `Origin`, whose host must be the request's. A port counts; the scheme does not,
    since a proxy may end TLS.
    """
    sites = [value for name, value in headers if name == b"sec-fetch-site"]
    if sites:
        return not _OWN_SITES.issuperset(sites)
    origins = [value for name, value in headers if name == b"origin"]
    if not origins:
        return False
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1").lower()
    return not host or any(_host_of(origin) != host for origin in origins)


def _host_of(origin: bytes) -> str:
    """The host and port of an origin; empty for `null` and anything else that is none."""
    try:
        return urlsplit(origin.decode("latin-1")).netloc.lower()
    except ValueError:
        return ""
