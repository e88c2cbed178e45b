"""Signing in to the console with an OpenID Connect provider."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from console_testbed import READ_ONLY, ConsoleTestbed, console_on, text_of
from openid_provider import CLIENT_ID, CLIENT_SECRET, Provider, openid_provider
from operations_testbed import ACCOUNT
from starlette.testclient import TestClient

from sonant.errors import SetupError
from sonant.iam import ALLOW_ALL
from sonant.settings import Console
from sonant.storage.repositories import access
from sonant.web.provider import (
    LEAST_BETWEEN_S,
    AuthorizationRequest,
    OpenIdProvider,
    ProviderFault,
    ProviderUser,
    may_be_asked,
    roles_by_group,
)

ADMIN = f"arn:aws:iam::{ACCOUNT}:role/admin"
LOOKER = f"arn:aws:iam::{ACCOUNT}:role/looker"
ROLES = f"ops={ADMIN}, fraud team={LOOKER}, lost=arn:aws:iam::{ACCOUNT}:role/absent"


@dataclass(slots=True)
class Browser:
    """A browser of a user of the provider."""

    web: TestClient
    provider: Provider
    console: ConsoleTestbed

    def leave(self, path: str = "/sign-in/provider", **query: str) -> str:
        """Go to the provider, and return the address there."""
        left = self.web.get(path, params=query)
        assert left.status_code == 303, left.text
        return str(left.headers["location"])

    def come_back(self, address: str, **claims: Any) -> Any:
        return self.web.get(self.provider.approve(address, **claims))

    def sign_in(self, *groups: str, **claims: Any) -> Any:
        return self.come_back(self.leave(), groups=list(groups), **claims)

    def get(self, path: str = "") -> Any:
        return self.web.get(self.console.base + path)

    def post(self, path: str, **fields: str) -> Any:
        """Send a form as the page has it, which is the form's path without its last part."""
        page = self.get(path.rpartition("/")[0])
        token = re.search(r'name="token" value="([0-9a-f]+)"', page.text)
        assert token is not None
        return self.web.post(self.console.base + path, data={"token": token[1], **fields})

    @property
    def signed_in(self) -> bool:
        return bool(self.get("/speakers").status_code == 200)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with openid_provider() as made:
        yield made


def settings_of(provider: Provider, **more: str) -> Console:
    given = {
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_roles": ROLES,
        **more,
    }
    return Console(**given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def console(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleTestbed]:
    with console_on(tmp_path_factory.mktemp("console") / "data", settings_of(provider)) as testbed:
        with testbed.store.database.write() as connection:
            for arn, policy in ((ADMIN, ALLOW_ALL), (LOOKER, READ_ONLY)):
                access.put_principal(connection, arn, ACCOUNT, [policy], testbed.clock())
        yield testbed


@pytest.fixture
def browser(console: ConsoleTestbed, provider: Provider) -> Browser:
    web = TestClient(console.app.asgi, base_url="http://127.0.0.1", follow_redirects=False)
    return Browser(web=web, provider=provider, console=console)


def failed(answer: Any) -> str:
    """Why a sign-in failed, as the address of the sign-in page has it."""
    assert answer.status_code == 303
    return str(answer.headers["location"].partition("failed=")[2].partition("&")[0])


def test_a_user_gets_the_role_of_the_first_group_that_has_one(browser: Browser) -> None:
    assert "Sign in with your organisation" in browser.web.get("/sign-in").text
    shown = browser.sign_in("staff", "fraud team", preferred_username="Ada L.")
    assert shown.status_code == 200
    assert 'content="0; url=/console/"' in shown.text
    assert "Ada L." in text_of(browser.get("/speakers"))
    speaker = browser.console.enroll("kept").removeprefix("id#")
    refused = browser.post(f"/speakers/{speaker}/opt-out")
    assert refused.status_code == 403, "the role may look only"


def test_the_page_that_was_asked_for_follows_and_no_other_site(browser: Browser) -> None:
    path = f"{browser.console.base}/speakers"
    back = browser.come_back(browser.leave(next=path), groups=["ops"])
    assert f'url={path}"' in back.text
    elsewhere = browser.come_back(browser.leave(next="//evil.example/"), groups=["ops"])
    assert 'url=/console/"' in elsewhere.text


def test_the_provider_is_asked_with_state_nonce_and_pkce(browser: Browser) -> None:
    browser.sign_in("ops")
    asked = browser.provider.asked
    assert asked["response_type"] == "code" and asked["client_id"] == CLIENT_ID
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == "http://127.0.0.1/sign-in/return"
    assert len(asked["state"]) >= 32 and len(asked["nonce"]) >= 32
    first = dict(asked)
    browser.sign_in("ops")
    assert all(browser.provider.asked[one] != first[one] for one in ("state", "nonce", "code_challenge"))


@pytest.mark.parametrize("groups", [[], ["staff"], "staff", None, ["lost"], [["ops"]], {"ops": 1}])
def test_nobody_without_a_role_gets_in(browser: Browser, groups: Any) -> None:
    assert failed(browser.come_back(browser.leave(), groups=groups)) == "role"
    assert not browser.signed_in
    assert "None of your groups" in browser.web.get("/sign-in?failed=role").text


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "another"], "azp": "another"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"iat": 99_999_999_999},
    ],
    ids=str,
)
def test_an_id_token_that_does_not_hold_is_refused(browser: Browser, claims: dict[str, Any]) -> None:
    assert failed(browser.sign_in("ops", **claims)) == "provider"
    assert not browser.signed_in


def test_a_signature_of_an_unknown_key_or_a_shared_secret_is_refused(browser: Browser) -> None:
    provider = browser.provider
    kept = provider.key, provider.algorithm
    provider.published = provider.key
    try:
        for kind in ("rsa", "secret"):
            provider.new_key(kind, kid="first")
            assert failed(browser.sign_in("ops")) == "provider"
    finally:
        provider.published = None
        provider.key, provider.algorithm = kept
    assert not browser.signed_in


def identify(client: OpenIdProvider, provider: Provider) -> ProviderUser:
    """Go to the provider and back."""
    asked, return_url = AuthorizationRequest.begin(), "http://127.0.0.1/sign-in/return"
    address = client.authorization_url(asked, return_url, again=False)
    query = urlsplit(provider.approve(address, groups=["ops"])).query
    return client.identify(asked, return_url, dict(parse_qsl(query)))


def test_a_new_key_of_the_provider_is_read_at_once(provider: Provider, console: ConsoleTestbed) -> None:
    times = [0.0]
    client = OpenIdProvider(settings_of(provider), lambda: times[0])
    kept = provider.key, provider.algorithm
    try:
        assert identify(client, provider).groups == ("ops",)
        provider.new_key("ec", kid="third")
        with pytest.raises(ProviderFault):
            identify(
                client, provider
            )  # the keys were read just now: nobody makes the service ask all the time
        times[0] += LEAST_BETWEEN_S
        assert identify(client, provider).groups == ("ops",)
    finally:
        provider.key, provider.algorithm = kept


def test_an_answer_counts_for_the_browser_that_asked_and_once(browser: Browser) -> None:
    back = browser.provider.approve(browser.leave(), groups=["ops"])
    other = TestClient(browser.console.app.asgi, base_url="http://127.0.0.1", follow_redirects=False)
    assert failed(other.get(back)) == "provider", "another browser has no such sign-in"
    assert browser.web.get(back).status_code == 200
    assert failed(browser.web.get(back)) == "provider", "the cookie is gone"


@pytest.mark.parametrize("query", ["", "?code=x", "?error=access_denied&state=x", "?state=%00&code=x"])
def test_addresses_that_nobody_was_sent_to_are_refused(browser: Browser, query: str) -> None:
    browser.leave()
    assert failed(browser.web.get(f"/sign-in/return{query}")) == "provider"


def test_an_answer_of_another_provider_is_refused(browser: Browser) -> None:
    back = browser.provider.approve(browser.leave(), issuer="https://other.example", groups=["ops"])
    assert failed(browser.web.get(back)) == "provider"


def test_a_sign_in_that_takes_too_long_is_refused(browser: Browser) -> None:
    back = browser.provider.approve(browser.leave(), groups=["ops"])
    browser.console.pass_time(minutes=11)
    assert failed(browser.web.get(back)) == "provider"


def test_a_login_with_a_provider_ends_like_others(browser: Browser) -> None:
    browser.sign_in("ops")
    assert browser.signed_in
    browser.web.post("/sign-out")
    assert not browser.signed_in
    browser.sign_in("ops")
    browser.console.pass_time(hours=11)
    assert not browser.signed_in


def test_taking_the_role_away_ends_its_logins(browser: Browser) -> None:
    console, arn = browser.console, f"arn:aws:iam::{ACCOUNT}:role/absent"
    with console.store.database.write() as connection:
        access.put_principal(connection, arn, ACCOUNT, [ALLOW_ALL], console.clock())
    browser.sign_in("lost")
    assert browser.signed_in
    with console.store.database.write() as connection:
        access.delete_principal(connection, arn)
    assert not browser.signed_in


def delete_speaker(browser: Browser, name: str) -> Any:
    """Send the form that deletes a new speaker, as the speaker's page has it."""
    speaker = browser.console.enroll(name).removeprefix("id#")
    return browser.post(f"/speakers/{speaker}/delete", sure="yes")


def test_what_destroys_asks_to_authenticate_again(browser: Browser) -> None:
    browser.sign_in("ops")
    refused = delete_speaker(browser, "first")
    assert refused.status_code == 403
    assert f"/sign-in/provider?confirm=1&amp;next={browser.console.base}/speakers/" in refused.text
    assert "secret-access-key" not in refused.text
    address = browser.leave(confirm="1", next=browser.console.base + "/speakers")
    assert "prompt=login" in address and "max_age=0" in address
    moment = browser.console.clock().timestamp()
    assert browser.come_back(address, groups=["ops"], auth_time=moment).status_code == 200
    assert delete_speaker(browser, "second").status_code == 303
    browser.console.pass_time(minutes=6)
    assert delete_speaker(browser, "third").status_code == 403


@pytest.mark.parametrize("claims", [{}, {"auth_time": 1000}, {"sub": "bert"}], ids=["no", "old", "other"])
def test_only_the_same_user_confirms_and_anew(browser: Browser, claims: dict[str, Any]) -> None:
    browser.sign_in("ops")
    moment = browser.console.clock().timestamp()
    given = {"groups": ["ops"], **({"auth_time": moment} if "sub" in claims else {}), **claims}
    assert failed(browser.come_back(browser.leave(confirm="1"), **given)) == "provider"
    assert delete_speaker(browser, f"one {claims}").status_code == 403


def test_attempts_are_recorded_with_the_user(
    provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with console_on(tmp_path_factory.mktemp("recorded") / "data", settings_of(provider)) as testbed:
        with testbed.store.database.write() as connection:
            access.put_principal(connection, ADMIN, ACCOUNT, [ALLOW_ALL], testbed.clock())
        web = TestClient(testbed.app.asgi, base_url="http://127.0.0.1", follow_redirects=False)
        browser = Browser(web=web, provider=provider, console=testbed)
        browser.sign_in("ops", sub="grace", email="grace@example.com")
        assert failed(browser.sign_in("staff", sub="mallory", email="mallory@example.com")) == "role"
        files = testbed.store.settings.data.glob("audit/**/*.jsonl")
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    told = [
        (one["additionalEventData"]["Name"], one.get("errorCode"))
        for one in lines
        if one["eventName"] == "ConsoleLogin"
    ]
    assert told == [("grace@example.com", None), ("mallory@example.com", "UnrecognizedClientException")]


def test_a_provider_that_is_away_leaves_access_keys(
    provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away = settings_of(provider, oidc_issuer="http://127.0.0.1:9")
    with console_on(tmp_path_factory.mktemp("away") / "data", away) as testbed:
        assert testbed.person().get("/speakers").status_code == 200
        web = TestClient(testbed.app.asgi, base_url="http://127.0.0.1", follow_redirects=False)
        assert failed(web.get("/sign-in/provider")) == "unreachable"


def test_a_console_without_a_provider_has_no_such_pages(tmp_path: Path) -> None:
    with console_on(tmp_path / "data") as testbed:
        web = TestClient(testbed.app.asgi, base_url="http://127.0.0.1", follow_redirects=False)
        assert web.get("/sign-in/provider").status_code == 404
        assert web.get("/sign-in/return").status_code == 404
        assert "organisation" not in web.get("/sign-in").text


@pytest.mark.parametrize(
    ("issuer", "address", "allowed"),
    [
        ("https://login.example", "https://keys.example/k", True),
        ("https://login.example", "http://login.example/k", False),
        ("https://login.example", "http://127.0.0.1:80/k", False),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/k", True),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9001/k", False),
        ("https://login.example", None, False),
    ],
)
def test_a_provider_names_addresses_by_https_alone(issuer: str, address: Any, allowed: bool) -> None:
    assert may_be_asked(address, issuer) is allowed


@pytest.mark.parametrize("text", ["ops", "ops=", "=arn:aws:iam::1:role/x", f"ops={ADMIN},x"])
def test_roles_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(SetupError, match="oidc_roles"):
        roles_by_group(text)


def test_an_issuer_without_the_rest_is_refused_at_the_start(provider: Provider) -> None:
    for missing in ("oidc_client_id", "oidc_roles"):
        with pytest.raises(SetupError, match=missing):
            OpenIdProvider(settings_of(provider, **{missing: ""}))
