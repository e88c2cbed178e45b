"""What all pages of the console have in common: headers, structure, rights, errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from console_testbed import NOTHING, READ_ONLY, ConsoleTestbed, Person, WebPage, text_of
from starlette.testclient import TestClient

from sonant.errors import DatabaseUnavailable
from sonant.storage.repositories import access
from sonant.web import texts
from sonant.web.console import PAGES

NOBODY = "A" * 22
#: Elements without content, which have no end tag.
VOID = {"meta", "link", "input", "br", "line", "rect", "path", "hr", "img"}


def paths(console: ConsoleTestbed) -> dict[str, str]:
    """A path of every page that the server renders, with things that exist."""
    speaker = console.call("DescribeSpeaker", SpeakerId="ada")["Speaker"]["GeneratedSpeakerId"]
    session = console.call("ListSessions")["SessionSummaries"][0]["SessionId"]
    dry_run = console.call("ListEnrollmentDryRuns")["JobSummaries"][0]["JobId"]
    watchlist = console.call("ListWatchlists")["WatchlistSummaries"][0]["WatchlistId"]
    fraudster = console.call("ListFraudsters")["FraudsterSummaries"][0]["GeneratedFraudsterId"]
    deleted = console.call("DescribeSpeaker", SpeakerId="gone")["Speaker"]["GeneratedSpeakerId"]
    ids = {
        "call.html": session,
        "job.html": dry_run,
        "speaker.html": speaker,
        "receipt.html": deleted,
        "watchlist.html": watchlist,
        "fraudster.html": fraudster,
    }
    return {
        page.template: page.path.format(
            region="us-east-1",
            domain=console.domain_id,
            kind="dry-run",
            id=ids.get(page.template, NOBODY).removeprefix("id#"),
        )
        for page in PAGES
        if page.read is not None
    }


@pytest.fixture(scope="module")
def furnished(console: ConsoleTestbed) -> ConsoleTestbed:
    console.enroll("ada")
    console.call("OptOutSpeaker", SpeakerId="gone")
    console.call("StartSession", SessionName="contact-1", SpeakerId="ada")
    console.call("EvaluateSession", SessionNameOrId="contact-1")
    console.start_dry_run()
    default = console.call("ListWatchlists")["WatchlistSummaries"][0]["WatchlistId"]
    console.add_fraudster(default)
    return console


TEMPLATES = sorted(page.template for page in PAGES if page.read is not None)


class Structure(HTMLParser):
    """Reads a page's elements, and what is wrong with them."""

    def __init__(self, page: WebPage) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self._ids: Counter[str] = Counter()
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self._heading = 1
        self._tokens = 0
        self.feed(page.text)
        self.faults += [f"the id {name} is there twice" for name, count in self._ids.items() if count > 1]
        self.faults += [f"{tag} is not closed" for tag, _ in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.counts[tag] += self._inside("svg") == 0
        self._ids.update([found["id"] or ""] if "id" in found else [])
        self.faults += [f"{tag} has {name}" for name in found if name == "style" or name.startswith("on")]
        self.faults += self._unnamed(tag, found)
        if re.fullmatch("h[1-6]", tag):
            if int(tag[1]) > self._heading + 1:
                self.faults.append(f"{tag} follows h{self._heading}")
            self._heading = int(tag[1])
        self._tokens += found.get("name") == "token"
        if tag == "form":
            self._tokens = 0
        if tag not in VOID:
            self._open.append((tag, found))
            self._texts.append("")

    def _inside(self, tag: str) -> int:
        return sum(parent == tag for parent, _ in self._open)

    def _unnamed(self, tag: str, found: dict[str, str | None]) -> Iterator[str]:
        """Yield what a screen reader, or a strict browser, would miss."""
        if tag in ("script", "style") and "src" not in found:
            yield f"{tag} is inline"
        field = tag in ("input", "select", "textarea") and found.get("type") != "hidden"
        if field and not self._inside("label") and "aria-label" not in found:
            yield f"{tag} {found.get('name')} has no label"
        if tag in ("progress", "meter", "nav") and "aria-label" not in found:
            yield f"{tag} has no name"
        if tag == "th" and "scope" not in found:
            yield "a head of a table has no scope"

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open[-1][0] != tag:
            self.faults.append(f"{tag} is closed out of order")
            return
        (_, found), text = self._open.pop(), self._texts.pop()
        if self._texts:
            self._texts[-1] += text
        named = text.strip() or "aria-label" in found
        if tag in ("a", "button", "h1", "h2", "summary", "title") and not named:
            self.faults.append(f"{tag} is empty")
        posted = tag == "form" and found.get("method") == "post" and found["action"] != "/sign-out"
        if posted and self._tokens != 1:
            self.faults.append(f"the form {found['action']} has no token")

    def handle_data(self, data: str) -> None:
        if self._texts:
            self._texts[-1] += data


@pytest.mark.parametrize("template", TEMPLATES)
def test_page_is_well_formed_and_named_for_screen_readers(
    furnished: ConsoleTestbed, admin: Person, template: str
) -> None:
    shown = admin.get(paths(furnished)[template])
    assert shown.status_code == 200, text_of(shown)
    structure = Structure(shown)
    assert structure.faults == []
    assert [structure.counts[one] for one in ("h1", "main", "title")] == [1, 1, 1]
    assert 'lang="en"' in shown.text


@pytest.mark.parametrize("template", TEMPLATES)
def test_page_runs_and_loads_what_is_its_own_only(
    furnished: ConsoleTestbed, admin: Person, template: str
) -> None:
    shown = admin.get(paths(furnished)[template])
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert (shown.headers["cache-control"], shown.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', shown.text)


@pytest.mark.parametrize("template", TEMPLATES)
def test_page_without_rights_says_so_and_shows_nothing(furnished: ConsoleTestbed, template: str) -> None:
    shown = furnished.person(NOTHING).get(paths(furnished)[template])
    said = text_of(shown)
    assert "is not authorized to perform" in said or template in ("receipts.html", "start-job.html")
    assert "ada" not in said and "contact-1" not in said


@pytest.mark.parametrize("template", TEMPLATES)
def test_page_with_rights_to_read_shows_all(furnished: ConsoleTestbed, template: str) -> None:
    shown = furnished.person(READ_ONLY).get(paths(furnished)[template])
    assert shown.status_code == 200
    assert "This cannot be shown" not in text_of(shown)


@pytest.mark.parametrize("path", ["/speakers", "/jobs", "/calls", "/fraud"])
@pytest.mark.parametrize("token", ["forged", "'\"<script>"])
def test_a_forged_page_token_is_refused(
    furnished: ConsoleTestbed, admin: Person, path: str, token: str
) -> None:
    shown = admin.get(path, after=token)
    assert shown.status_code == 400
    assert "<script>" not in shown.text.replace('<script src="/console/console.js"', "")


@pytest.mark.parametrize(
    "path",
    [
        "/console/nowhere",
        "/console/us-east-1/short/jobs",
        f"/console/us-east-1/{NOBODY}/jobs",
        f"/console/eu-west-9/{NOBODY}/jobs",
        f"/console/eu-west-9/{NOBODY}/audit/audit.jsonl",
        f"/console/us-east-1/{NOBODY}",
    ],
)
def test_what_is_not_there_is_said_in_a_page(furnished: ConsoleTestbed, admin: Person, path: str) -> None:
    shown = admin.get(path)
    assert shown.headers["content-type"].startswith("text/html")
    if path == f"/console/us-east-1/{NOBODY}":
        assert "does not exist" in text_of(shown)  # its parts say so
    else:
        assert shown.status_code in (400, 404)
        assert "Not found" in text_of(shown) or "did not work" in text_of(shown)


def test_a_browser_at_the_services_address_gets_the_console(furnished: ConsoleTestbed, admin: Person) -> None:
    opened = admin.web.get("/", headers={"Accept": "text/html,application/xhtml+xml"})
    assert (opened.status_code, opened.headers["location"]) == (303, "/console/")
    assert admin.web.get("/", headers={"Accept": "*/*"}).status_code == 404, "an AWS client"


def test_the_navigation_marks_the_page_that_is_open(furnished: ConsoleTestbed, admin: Person) -> None:
    for path, label in (
        ("", "Overview"),
        ("/jobs", "Jobs"),
        ("/start-job", "Jobs"),
        ("/speakers", "Speakers"),
    ):
        here = re.findall(r'aria-current="page">\s*([^<]+)</a>', admin.get(path).text)
        assert label in here


def test_files_of_the_console_are_served_and_templates_are_not(admin: Person) -> None:
    for name, kind in (
        ("console.css", "text/css"),
        ("console.js", "text/javascript"),
        ("icon.svg", "image/svg"),
    ):
        assert admin.get(f"/console/{name}").headers["content-type"].startswith(kind)
    for name in ("layout.html", "speaker.html", "../console.py", "%2e%2e%2fconsole.py"):
        assert admin.get(f"/console/{name}").status_code in (400, 404)


class Bracketed(dict[str, str]):
    """A language that has every text, in brackets."""

    def get(self, text: str, _default: object = None) -> str:
        return f"\N{LEFT DOUBLE ANGLE BRACKET}{text}\N{RIGHT DOUBLE ANGLE BRACKET}"


class FixedTexts(HTMLParser):
    """Collects the texts of elements that never show data alone."""

    def __init__(self, page: WebPage) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._open: list[str] = []
        self.feed(page.text)

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        fixed = ("label", "th", "button", "caption", "dt", "option")
        if data.strip() and self._open and self._open[-1] in fixed:
            self.found.append(data.strip())


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_text_of_a_page_can_be_in_another_language(
    furnished: ConsoleTestbed, admin: Person, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(texts.LANGUAGES, "xx", Bracketed())
    shown = admin.web.get(
        paths(furnished)[template], headers={"Accept-Language": "zz, xx-YY;q=0.8, en;q=0.1"}
    )
    assert 'lang="xx"' in shown.text
    names = {one["Name"] for one in furnished.call("ListWatchlists")["WatchlistSummaries"]}
    left = {one for one in FixedTexts(shown).found if "\N{LEFT DOUBLE ANGLE BRACKET}" not in one} - names
    assert left == set()


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (DatabaseUnavailable("the database does not answer"), 503),
        (RuntimeError("a bug"), 500),
    ],
)
def test_a_fault_of_the_service_is_a_page(
    console: ConsoleTestbed, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int
) -> None:
    person = console.person()
    browser = TestClient(
        console.app.asgi,
        base_url="http://127.0.0.1",
        cookies=person.web.cookies,
        follow_redirects=False,
        raise_server_exceptions=False,
    )

    def fail(*_: object) -> None:
        raise fault

    console.person(signed_in=False)  # a change, so that keys are read anew
    monkeypatch.setattr(access, "find_secret", fail)
    keys = {"access-key-id": "AKIA" + "A" * 16, "secret-access-key": person.secret}
    for answer in (
        browser.get(console.base + "/jobs"),
        browser.post(console.base + "/speakers/find", data={"speaker": "ada"}),
        browser.post("/sign-in", data=keys),
    ):
        assert answer.status_code == status
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "a bug" not in answer.text
    told = browser.get(console.base + "/jobs", headers={"X-Sonant-Refresh": "1"})
    assert told.status_code == status
    assert told.json()["message"]
