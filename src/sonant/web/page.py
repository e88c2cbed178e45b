"""What a page of the console provides: its path, its template, and what the page's script may ask for.

A module of this package defines its page as `PAGE`; its template is a file of the folder `pages`. Nothing
else names it: `find_pages` looks through the package. Sign-in, cookies, headers and files are the console's.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from sonant.errors import SonantError

#: Ids in the paths of pages.
_ID = "[A-Za-z0-9]{22}"


class PageError(SonantError):
    """A request of a page that is refused; the message is for the user."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """A request of a page's script, from a user who is signed in."""

    parameters: Mapping[str, str]
    """Those of the path, by name."""
    region: str
    """The service's first Region."""
    domain_of: Callable[[str], tuple[str, str] | None]
    """Finds the Region and the id of the domain of a session id."""
    call: Callable[[str, str, Mapping[str, Any]], dict[str, Any]]
    """Calls an operation in a Region with the rights of the user, and returns its answer or its error."""


#: Answers a request of a page with an object for its script. Raises PageError.
PageFunction = Callable[[PageRequest], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of the console."""

    path: str
    """Such as `/sessions/{id}`; each parameter is an id of 22 letters and digits."""
    template: str
    """A file of the folder `pages`."""
    functions: Mapping[tuple[str, str], PageFunction]
    """By method (GET reads, POST changes) and by what follows the page's path, such as `/state`."""

    @property
    def prefix(self) -> str:
        """The first part of the path, which belongs to this page alone."""
        return self.path[: self.path.index("/", 1) + 1]

    def has(self, path: str) -> bool:
        """Decide whether a path is that of this page."""
        return re.fullmatch(re.sub(r"\{\w+\}", _ID, self.path), path) is not None


def find_pages() -> tuple[Page, ...]:
    """Import every module of this package and return the pages that they define."""
    package = import_module("sonant.web")
    modules = [import_module(f"sonant.web.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    return tuple(module.PAGE for module in modules if hasattr(module, "PAGE"))
