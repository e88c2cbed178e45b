"""The session page: access to it, its contents and its actions, also in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import browser
import httpx
import pytest
from botocore.credentials import Credentials
from service_process import ServiceProcess
from tampering import altered_text

PAGE_HEADER = {"X-Sonant": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent with a session that waits for its call."""

    service: ServiceProcess
    own: Any
    domain_id: str
    session_id: str
    web: httpx.Client
    key: Credentials

    @property
    def page(self) -> str:
        return f"/sessions/{self.session_id.removeprefix('id#')}"

    def sign_in(self, **changes: str) -> httpx.Response:
        fields = {
            "access-key-id": self.key.access_key,
            "secret-access-key": self.key.secret_key,
        }
        form = fields | {name.replace("_", "-"): value for name, value in changes.items()}
        return self.web.post("/sign-in", params={"next": self.page}, data=form)


@pytest.fixture
def agent(service: ServiceProcess) -> Iterator[Agent]:
    own = service.own_client()
    domain_id = service.domain()
    session = own.start_session(DomainId=domain_id, SessionName="contact-1", SpeakerId="ada")["Session"]
    with httpx.Client(base_url=service.url) as web:
        yield Agent(
            service=service,
            own=own,
            domain_id=domain_id,
            session_id=session["SessionId"],
            web=web,
            key=service.credentials,
        )


def test_the_page_requires_a_login(agent: Agent) -> None:
    refused = agent.web.get(agent.page)
    assert (refused.status_code, refused.headers["location"]) == (303, f"/sign-in?next={agent.page}")
    assert agent.web.get(f"{agent.page}/state").status_code == 401
    assert agent.web.post(f"{agent.page}/enroll", headers=PAGE_HEADER).status_code == 401

    signed = agent.sign_in()
    assert (signed.status_code, signed.headers["location"]) == (303, agent.page)
    cookie = signed.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert agent.key.secret_key not in cookie
    assert "Speech heard" in agent.web.get(agent.page).text


@pytest.mark.parametrize(
    "changes",
    [
        {"secret_access_key": "wrong"},
        {"secret_access_key": ""},
        {"access_key_id": "AKIANOBODY"},
        {"access_key_id": "x" * 4000},
        {"session_token": "anything"},
    ],
)
def test_a_wrong_secret_gets_no_cookie(agent: Agent, changes: dict[str, str]) -> None:
    refused = agent.sign_in(**changes)
    assert refused.headers["location"].startswith("/sign-in?failed=1")
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("body", [b"&".join(b"a=1" for _ in range(50)), b"x" * 20_000, b"\xff\xfe=", b""])
def test_a_malformed_form_is_a_failed_attempt(agent: Agent, body: bytes) -> None:
    refused = agent.web.post("/sign-in", content=body)
    assert (refused.status_code, refused.headers["location"][:16]) == (303, "/sign-in?failed=")


def test_a_changed_cookie_is_refused(agent: Agent) -> None:
    agent.sign_in()
    (cookie,) = agent.web.cookies.values()
    for changed in (altered_text(cookie), "nonsense", ""):
        stranger = httpx.Client(base_url=agent.service.url, cookies={"sonant-ticket": changed})
        assert stranger.get(f"{agent.page}/state").status_code == 401


def test_signing_in_never_redirects_to_another_site(agent: Agent) -> None:
    form = {
        "access-key-id": agent.key.access_key,
        "secret-access-key": agent.key.secret_key,
    }
    for where in ("https://evil.example", "//evil.example", "/sessions/../x", "javascript:alert(1)"):
        signed = agent.web.post("/sign-in", params={"next": where}, data=form)
        assert signed.headers["location"] == "/console/"


def test_the_state_is_the_answers_of_the_operations(agent: Agent) -> None:
    agent.sign_in()
    told = agent.web.get(f"{agent.page}/state").json()
    assert told["DescribeSession"]["Session"]["CustomerSpeakerId"] == "ada"
    evaluated = told["EvaluateSession"]
    assert evaluated["StreamingStatus"] == "PENDING_CONFIGURATION"
    assert evaluated["AuthenticationResult"]["Decision"] == "SPEAKER_NOT_ENROLLED"


def test_enroll_and_opt_out_call_the_operations(agent: Agent) -> None:
    agent.sign_in()
    enrolled = agent.web.post(f"{agent.page}/enroll", headers=PAGE_HEADER).json()
    assert enrolled["EnrollBySession"] == {"Status": "NOT_ENOUGH_SPEECH"}
    again = agent.web.post(f"{agent.page}/enroll", headers=PAGE_HEADER).json()
    assert again["EnrollBySession"]["ConflictType"] == "ENROLLMENT_ALREADY_EXISTS"
    restarted = agent.web.post(f"{agent.page}/restart", headers=PAGE_HEADER).json()
    assert "no ongoing stream" in restarted["RestartStream"]["Message"]
    out = agent.web.post(f"{agent.page}/opt-out", headers=PAGE_HEADER).json()
    assert out["OptOutSpeaker"]["Speaker"]["Status"] == "OPTED_OUT"


def test_a_change_must_come_from_the_page(agent: Agent) -> None:
    agent.sign_in()
    assert agent.web.post(f"{agent.page}/opt-out").status_code == 403
    described = agent.service.voice_id.describe_speaker(DomainId=agent.domain_id, SpeakerId="ada")
    assert described["Speaker"]["Status"] == "PENDING"


def test_another_sites_page_can_neither_sign_in_nor_out_nor_change(agent: Agent) -> None:
    own = f"http://127.0.0.1:{agent.service.port}"
    fields = {"access-key-id": agent.key.access_key, "secret-access-key": agent.key.secret_key}
    for sent in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": own, "Sec-Fetch-Site": "cross-site"},
        {"Origin": own, "Sec-Fetch-Site": "same-site"},
    ):
        assert agent.web.post("/sign-in", data=fields, headers=sent).status_code == 403
    assert not agent.web.cookies
    signed = agent.web.post("/sign-in", data=fields, headers={"Origin": own, "Sec-Fetch-Site": "same-origin"})
    assert signed.status_code == 303
    strange = {"Origin": "https://evil.example"}
    assert agent.web.post("/sign-out", headers=strange).status_code == 403
    assert agent.web.post(f"{agent.page}/opt-out", headers=PAGE_HEADER | strange).status_code == 403
    assert agent.web.get(f"{agent.page}/state").status_code == 200


def test_signing_out_ends_the_login_and_every_copy_of_its_cookie(agent: Agent) -> None:
    agent.sign_in()
    (cookie,) = agent.web.cookies.values()
    with httpx.Client(base_url=agent.service.url, cookies={"sonant-ticket": cookie}) as copy:
        assert copy.get(f"{agent.page}/state").status_code == 200
        assert agent.web.post("/sign-out").headers["location"] == "/sign-in"
        assert not agent.web.cookies
        assert copy.get(f"{agent.page}/state").status_code == 401
        assert copy.get(agent.page).status_code == 303
        assert copy.post("/sign-out").status_code == 303
    agent.sign_in()
    assert agent.web.get(f"{agent.page}/state").status_code == 200, "another login is not touched"


def test_the_page_has_only_the_rights_of_the_key(agent: Agent) -> None:
    onlooker = agent.service.user(
        {"Effect": "Allow", "Action": ["sonant:DescribeSession", "kms:Decrypt"], "Resource": "*"}
    )
    agent.sign_in(access_key_id=onlooker.access_key, secret_access_key=onlooker.secret_key)
    told = agent.web.get(f"{agent.page}/state").json()
    assert told["DescribeSession"]["Session"]["SessionName"] == "contact-1"
    assert told["EvaluateSession"]["__type"].endswith("AccessDeniedException")
    enrolled = agent.web.post(f"{agent.page}/enroll", headers=PAGE_HEADER).json()
    assert enrolled["EnrollBySession"]["__type"].endswith("AccessDeniedException")


@pytest.mark.parametrize("identity", ["A" * 22, "short", "%2e%2e", "A" * 500])
def test_an_unknown_session_is_not_found(agent: Agent, identity: str) -> None:
    agent.sign_in()
    assert agent.web.get(f"/sessions/{identity}/state").status_code == 404


def test_actions_on_the_page_are_in_the_audit_trail(agent: Agent) -> None:
    agent.sign_in()
    agent.web.post(f"{agent.page}/enroll", headers=PAGE_HEADER)
    shown = agent.service.sonant("audit", "show", "--operation", "EnrollBySession").out
    assert agent.key.access_key in shown


def test_logins_and_failed_attempts_are_in_the_audit_trail(agent: Agent) -> None:
    agent.sign_in(secret_access_key="guess")
    agent.sign_in(access_key_id="a secret, typed into the wrong field")
    agent.sign_in()  # the last: it waits until the trail is on the disk
    lines = agent.service.sonant("audit", "show", "--operation", "ConsoleLogin", "--json").out.splitlines()
    told = [json.loads(line) for line in lines[-3:]]
    assert [(one.get("errorCode"), one["userIdentity"]["accessKeyId"]) for one in told] == [
        ("UnrecognizedClientException", agent.key.access_key),
        ("UnrecognizedClientException", ""),
        (None, agent.key.access_key),
    ]
    assert told[0]["userIdentity"]["type"] == "Unknown"
    assert told[2]["userIdentity"]["arn"]
    assert "guess" not in str(told) and agent.key.secret_key not in str(told)


def test_the_page_loads_own_scripts_only_and_cannot_be_framed(agent: Agent) -> None:
    headers = agent.web.get("/sign-in").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


@pytest.mark.skipif(browser.PROGRAM is None, reason="no browser: apt install chromium")
def test_in_a_browser_an_agent_signs_in_enrolls_and_opts_out(agent: Agent, tmp_path: Path) -> None:
    with browser.Browser(tmp_path) as window:
        window.go(agent.service.url + agent.page)
        window.until("document.querySelector('#sign-in button')")
        fields = {"access-key-id": "access_key", "secret-access-key": "secret_key"}
        for field, name in fields.items():
            value = json.dumps(getattr(agent.key, name))
            window.run(f"document.querySelector('[name={field}]').value = {value}")
        window.run("document.querySelector('#sign-in button').click()")
        window.until("document.getElementById('speaker')?.textContent === 'ada'")
        assert "waiting for audio" in window.text()
        assert "Not enrolled" in window.text()
        window.run("document.getElementById('enroll').click()")
        window.until("document.getElementById('enrollment').textContent.includes('gathering speech')")
        window.run("document.getElementById('opt-out').click()")
        window.run("document.querySelector('#sure [value=yes]').click()")
        window.until("document.getElementById('authentication').textContent === 'Opted out'")
        # Why an action failed stays, whatever the page finds meanwhile, until it is dismissed.
        window.run("document.getElementById('restart').disabled = false")
        window.run("document.getElementById('restart').click()")
        window.until("!document.getElementById('failure').hidden")
        assert "no ongoing stream" in window.text()
        window.run("document.getElementById('speaker').textContent = ''")
        window.until("document.getElementById('speaker').textContent === 'ada'")  # it has looked again
        assert "no ongoing stream" in window.text()
        window.run("document.getElementById('dismiss').click()")
        window.until("document.getElementById('failure').hidden")
        window.run("document.querySelector('header form button').click()")
        window.until("location.pathname === '/sign-in'")
