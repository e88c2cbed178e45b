"""What a page of the console provides: its path, its template, its values, its forms and files.

A module of this package defines its page as `PAGE`; its template is a file of the folder `pages`. Nothing
else names it: `find_pages` looks through the package. Sign-in, cookies, headers and files are the console's.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from sonant.errors import SonantError

#: Forms of the parameters in the paths of pages; all others are ids.
_FORMS = {"region": "[a-z]{2,}(?:-[a-z0-9]+)+"}
_ID = "[A-Za-z0-9]{22}"
_PARAMETER = re.compile(r"\{(\w+)\}")
#: HTTP status of a page whose operation was refused, by the name of the error.
_STATUS = {
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "ConflictException": 409,
    "ThrottlingException": 429,
    "InternalServerException": 500,
    "InternalFailure": 500,
}


class PageError(SonantError):
    """A request of a page that is refused; the message is for the user."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status


class OperationRefused(PageError):
    """An operation's error, as its caller gets it. `code` is its name, such as `AccessDeniedException`."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.code = str(answer["__type"]).rpartition("#")[2]
        message = answer.get("Message") or answer.get("message") or self.code
        super().__init__(_STATUS.get(self.code, 400), str(message))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """A request of a page or its script, from a user who is signed in."""

    parameters: Mapping[str, str]
    """Those of the path, by name."""
    region: str
    """That of the path, else the service's first Region."""
    domain_of: Callable[[str], tuple[str, str] | None]
    """Finds the Region and the id of the domain of a session id."""
    call: Callable[[str, str, Mapping[str, Any]], dict[str, Any]]
    """Calls an operation in a Region with the rights of the user, and returns its answer or its error."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Fields of the query that are not empty, without spaces at their ends."""
    form: Mapping[str, str] = field(default_factory=dict)
    """Fields of the posted form, likewise."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    regions: tuple[str, ...] = ()
    """All Regions that the service serves."""

    @property
    def domain_id(self) -> str:
        return self.parameters["domain"]

    @property
    def base(self) -> str:
        """The beginning of the paths of the domain's pages."""
        return f"/console/{self.region}/{self.domain_id}"

    def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation of the path's Region and domain. Raises OperationRefused."""
        if "domain" in self.parameters:
            parameters = {"DomainId": self.domain_id, **parameters}
        return self.ask_in(self.region, operation, **parameters)

    def ask_in(self, region: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation in a Region; members that are None are left out. Raises OperationRefused."""
        given = {name: value for name, value in parameters.items() if value is not None}
        answer = self.call(region, operation, given)
        if "__type" in answer:
            raise OperationRefused(answer)
        return answer

    def try_ask(self, operation: str, **parameters: Any) -> dict[str, Any] | OperationRefused:
        """Call an operation for one part of a page, which says so itself when it is refused."""
        try:
            return self.ask(operation, **parameters)
        except OperationRefused as refused:
            return refused


@dataclass(frozen=True, slots=True)
class SeeOther:
    """What follows a form: another page, which says what was done."""

    path: str
    done: str = ""
    """A key of `texts.DONE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file for the user to keep."""

    name: str
    media_type: str
    content: bytes


#: Answers a request of a page's script with an object. Raises PageError.
PageFunction = Callable[[PageRequest], Mapping[str, Any]]
#: Reads the values of a page's template. Raises PageError.
PageRead = Callable[[PageRequest], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form of a page: what it does when it is sent."""

    submit: Callable[[PageRequest], SeeOther | Download]
    """Raises PageError; the page is then shown again with the message and the fields as they were."""
    destroys: bool = False
    """Whether the user must have given the secret of the access key just before, or give it with the form."""


@dataclass(frozen=True, slots=True)
class Navigation:
    """An entry of the console's navigation, for pages of a domain."""

    label: str
    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of the console."""

    path: str
    """Such as `/console/{region}/{domain}/jobs`; parameters other than `region` are ids of 22 characters."""
    template: str
    """A file of the folder `pages`."""
    functions: Mapping[tuple[str, str], PageFunction] = field(default_factory=dict)
    """What its script calls, by method (GET reads, POST changes) and by what follows the path (`/state`)."""
    read: PageRead | None = None
    """Reads the values of the template. None: the template is sent as it is."""
    forms: Mapping[str, Form] = field(default_factory=dict)
    """By what follows the page's path, such as `/delete`."""
    files: Mapping[str, Callable[[PageRequest], Download]] = field(default_factory=dict)
    """By what follows the page's path, such as `/failed.csv`."""
    navigation: Navigation | None = None
    section: str = ""
    """The label of the entry in the navigation that this page belongs to; empty for its own."""

    @property
    def prefix(self) -> str:
        """The first part of the path."""
        return self.path[: self.path.index("/", 1) + 1]

    def has(self, path: str) -> bool:
        """Decide whether a path is that of this page."""
        form = _PARAMETER.sub(lambda found: _FORMS.get(found[1], _ID), self.path)
        return re.fullmatch(form, path) is not None


def path_id(generated_id: str) -> str:
    """Return a generated id as it stands in paths: without `id#`."""
    return generated_id.removeprefix("id#")


def find_pages() -> tuple[Page, ...]:
    """Import every module of this package and return the pages that they define."""
    package = import_module("sonant.web")
    modules = [import_module(f"sonant.web.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    return tuple(module.PAGE for module in modules if hasattr(module, "PAGE"))
