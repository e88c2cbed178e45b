"""The console in the test's own process, and its users: a service without a port, asked by a test client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
from operations_testbed import ACCOUNT, REGION, MovedClock, Operations, operations_on
from starlette.testclient import TestClient

from sonant.assembly.service import App, build_app
from sonant.iam import ALLOW_ALL
from sonant.settings import Console, Rates
from sonant.storage.repositories import access

#: Everything but what destroys.
READ_ONLY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "voiceid:Describe*",
                    "voiceid:List*",
                    "sonant:Describe*",
                    "sonant:List*",
                    "kms:Decrypt",
                ],
                "Resource": "*",
            }
        ],
    }
)
NOTHING = json.dumps({"Version": "2012-10-17", "Statement": []})


@dataclass(slots=True)
class Person:
    """A user with an access key and a browser."""

    web: TestClient
    key_id: str
    secret: str
    base: str
    """Beginning of the paths of the domain's pages."""

    def sign_in(self, path: str = "") -> httpx.Response:
        form = {"access-key-id": self.key_id, "secret-access-key": self.secret}
        return self.web.post("/sign-in", params={"next": path}, data=form)

    def get(self, path: str = "", **query: str) -> httpx.Response:
        """Open a page of the domain; a path of its own begins with `/console/` or `/sign-`."""
        return self.web.get(self._path(path), params=query)

    def post(
        self, path: str, *, page: str | None = None, secret: bool = False, **fields: str
    ) -> httpx.Response:
        """Send a form as the page has it, which is the form's path without its last part."""
        shown = self.web.get(self._path(path).rpartition("/")[0] if page is None else self._path(page))
        token = re.search(r'name="token" value="([0-9a-f]+)"', shown.text)
        form = {"token": token[1] if token else ""} | fields
        if secret:
            form["secret-access-key"] = self.secret
        return self.web.post(self._path(path), data=form)

    def _path(self, path: str) -> str:
        return path if path.startswith(("/console", "/sign-")) else self.base + path


@dataclass(slots=True)
class ConsoleTestbed:
    """A service with one domain."""

    operations: Operations
    app: App
    domain_id: str = ""
    _people: int = field(default=0)

    @property
    def clock(self) -> MovedClock:
        return self.operations.clock

    @property
    def base(self) -> str:
        return f"/console/{REGION}/{self.domain_id}"

    def person(self, *policies: str, signed_in: bool = True) -> Person:
        """Make a user with these policies, by default with all rights."""
        self._people += 1
        store = self.operations.store
        arn = f"arn:aws:iam::{ACCOUNT}:user/person{self._people}"
        with store.database.write() as connection:
            access.put_principal(connection, arn, ACCOUNT, policies or (ALLOW_ALL,), self.clock())
            key_id, secret = access.create_access_key(connection, store.secret, arn, self.clock())
        web = TestClient(self.app.asgi, base_url="http://127.0.0.1", follow_redirects=False)
        person = Person(web=web, key_id=key_id, secret=secret, base=self.base)
        if signed_in:
            assert person.sign_in().status_code == 303
        return person

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.operations.call(operation, DomainId=self.domain_id, **request)

    def pass_time(self, **by: float) -> None:
        self.clock.now += timedelta(**by)


@contextmanager
def console_on(data: Path, console: Console | None = None) -> Iterator[ConsoleTestbed]:
    """Serve a new data folder. No rates: a test asks faster than people do."""
    operations = operations_on(data)
    changed = {"rates": Rates(factor=0), "console": console or Console()}
    object.__setattr__(operations, "settings", _with(operations.settings, changed))
    operations.restart()
    app = build_app(operations.store)
    testbed = ConsoleTestbed(operations=operations, app=app)
    testbed.domain_id = operations.new_domain()
    try:
        yield testbed
    finally:
        app.close()


def _with(settings: Any, changed: Mapping[str, Any]) -> Any:
    from dataclasses import replace

    return replace(settings, **changed)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style", "title")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style", "title")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def text_of(response: httpx.Response) -> str:
    """Return what a page says, with single spaces."""
    parser = _Text()
    parser.feed(response.text)
    return " ".join("".join(parser.parts).split())
