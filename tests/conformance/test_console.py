"""The console of a served Sonant in a real browser: by keyboard, alive, and without barriers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import browser
import pytest
from operations_testbed import REGION
from sample_requests import add_enrolled, add_fraudster, add_registration_job
from service_process import ServiceProcess

from sonant.storage.repositories import jobs
from sonant.web.console import PAGES

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no browser: apt install chromium")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A person at the console, signed in, with a domain that has something of everything."""

    service: ServiceProcess
    window: browser.Browser
    domain_id: str
    call: Any
    """The client of Sonant's own operations."""
    ids: dict[str, str]
    """Ids for the paths of pages, by template."""

    def go(self, path: str = "") -> None:
        self.window.go(f"{self.service.url}/console/{REGION}/{self.domain_id}{path}")

    def page(self, template: str) -> str:
        path = next(page.path for page in PAGES if page.template == template)
        found = self.ids.get(template, "").removeprefix("id#")
        return path.format(region=REGION, domain=self.domain_id, kind="dry-run", id=found)


@pytest.fixture(scope="module")
def desk(service: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    domain_id = service.domain("console")
    at = {"DomainId": domain_id}
    own, api = service.own_client(), service.voice_id
    add_enrolled(service, domain_id, "ada")
    gone = api.opt_out_speaker(**at, SpeakerId="gone")["Speaker"]["GeneratedSpeakerId"]
    session = own.start_session(**at, SessionName="contact-1", SpeakerId="ada")["Session"]["SessionId"]
    api.evaluate_session(**at, SessionNameOrId="contact-1")
    watchlist = api.list_watchlists(**at)["WatchlistSummaries"][0]["WatchlistId"]
    ids = {
        "call.html": session,
        "job.html": add_registration_job(service, domain_id, jobs.DRY_RUN),
        "speaker.html": api.describe_speaker(**at, SpeakerId="ada")["Speaker"]["GeneratedSpeakerId"],
        "receipt.html": gone,
        "watchlist.html": watchlist,
        "fraudster.html": add_fraudster(service, domain_id, watchlist),
    }
    with browser.Browser(tmp_path_factory.mktemp("browser")) as window:
        window.go(f"{service.url}/")
        window.until("document.querySelector('#sign-in')")
        window.run("document.querySelector('[name=access-key-id]').focus()")
        window.write(service.credentials.access_key)
        window.press("Tab")
        window.write(service.credentials.secret_key)
        window.press("Enter")
        window.until("location.pathname === '/console/'")
        yield Desk(service=service, window=window, domain_id=domain_id, call=own, ids=ids)


def test_the_keyboard_alone_reaches_and_deletes_a_speaker(desk: Desk) -> None:
    window = desk.window
    add_enrolled(desk.service, desk.domain_id, "by-keyboard")
    desk.go("/speakers")
    window.press("Tab")
    assert window.run("document.activeElement.className") == "skip"
    window.press("Enter")
    window.until("document.activeElement.id === 'main'")
    window.run("document.querySelector('[name=id]').focus()")
    window.write("by-keyboard")
    window.press("Enter")
    window.until("document.querySelector('h1')?.textContent === 'by-keyboard'")
    window.run("document.querySelector('summary.danger').focus()")
    window.press("Enter")
    window.until("document.querySelector('summary.danger').parentElement.open")
    window.press("Tab")
    assert window.run("document.activeElement.name") == "secret-access-key"
    window.write(desk.service.credentials.secret_key)
    window.press("Enter")
    window.until("document.querySelector('h1')?.textContent === 'Receipt of a deletion'")
    assert "The speaker was deleted." in window.text()
    assert '"DELETE_SPEAKER"' in window.text()


def test_a_page_shows_a_change_without_being_loaded_again(desk: Desk) -> None:
    session = desk.call.start_session(DomainId=desk.domain_id, SessionName="live")["Session"]["SessionId"]
    desk.go(f"/calls/{session.removeprefix('id#')}")
    desk.window.run("window.same = true")
    assert "Waiting for audio" in desk.window.text()
    desk.call.end_stream(DomainId=desk.domain_id, SessionNameOrId=session)
    desk.window.until("document.querySelector('#call').textContent.includes('It was requested')")
    assert desk.window.run("window.same") is True
    assert desk.window.run("document.querySelector('#call').dataset.refresh") is None


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_pages_have_no_barriers_and_fit_on_a_phone(desk: Desk, theme: str) -> None:
    found = {}
    for template in sorted(page.template for page in PAGES if page.read is not None):
        desk.window.go(desk.service.url + desk.page(template))
        assert "Not found" not in desk.window.text(), template
        desk.window.look(width=1280, height=900, theme=theme)
        found[template] = desk.window.violations()
        desk.window.look(width=320, height=640)
        wide = desk.window.run("document.documentElement.scrollWidth")
        if wide > 320:
            found[template].append(f"is {wide} px wide")
    desk.window.look(width=1000, height=800)
    assert {template: faults for template, faults in found.items() if faults} == {}


def test_reading_and_searching_need_no_script(desk: Desk) -> None:
    window = desk.window
    window.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        desk.go("/calls?voice=SPEAKER_NOT_ENROLLED")
        text = partial(window.run, "document.body.textContent")
        assert "No call is like that" in text()
        desk.go("/speakers")
        assert "ada" in text()
    finally:
        window.call("Emulation.setScriptExecutionDisabled", value=False)


def test_nothing_a_page_shows_is_blocked_by_its_own_policy(desk: Desk) -> None:
    script = "window.blocked = []; document.addEventListener('securitypolicyviolation', (event) => "
    added = desk.window.call(
        "Page.addScriptToEvaluateOnNewDocument", source=script + "window.blocked.push(event.blockedURI))"
    )
    for path in ("", "/calls", "/audit?verify=1", "/settings"):
        desk.go(path)
        assert json.loads(desk.window.run("JSON.stringify(window.blocked)")) == []
        assert desk.window.run("getComputedStyle(document.querySelector('nav.pages')).display") == "block"
    desk.window.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
