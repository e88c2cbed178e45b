"""Which requests count as another site's."""

from __future__ import annotations

import pytest

from sonant.web.same_origin import is_cross_site

HOST = (b"host", b"voice.example:8180")


@pytest.mark.parametrize(
    ("headers", "cross_site"),
    [
        # Programs send neither header.
        ([], False),
        # Sec-Fetch-Site decides, even where a proxy has changed the host.
        ([(b"sec-fetch-site", b"same-origin"), (b"origin", b"https://public.example")], False),
        ([(b"sec-fetch-site", b"none")], False),
        ([(b"sec-fetch-site", b"cross-site")], True),
        ([(b"sec-fetch-site", b"same-site")], True),
        ([(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site")], True),
        # Without it, the origin's host and port.
        ([(b"origin", b"http://voice.example:8180")], False),
        ([(b"origin", b"https://VOICE.example:8180")], False),
        ([(b"origin", b"http://voice.example")], True),
        ([(b"origin", b"http://voice.example:8181")], True),
        ([(b"origin", b"null")], True),
        ([(b"origin", b"")], True),
        ([(b"origin", b"http://[")], True),
        ([(b"origin", b"http://voice.example:8180"), (b"origin", b"http://evil.example")], True),
    ],
)
def test_what_another_site_sends_is_known(headers: list[tuple[bytes, bytes]], cross_site: bool) -> None:
    assert is_cross_site([HOST, *headers]) is cross_site


def test_without_a_host_no_origin_is_the_own_one() -> None:
    assert is_cross_site([(b"origin", b"http://voice.example")])
    assert is_cross_site([(b"origin", b"null")])
