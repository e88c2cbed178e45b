"""Render the console's templates: Jinja2 with escaping, the layout's values, and filters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from jinja2 import DictLoader, Environment, Undefined, pass_context
from jinja2.runtime import Context
from jinja2.utils import missing
from markupsafe import Markup

from sonant.web import charts
from sonant.web.page import OperationRefused, path_id
from sonant.web.texts import TONES, WORDS, translate


class AbsentMember(Undefined):
    """A member that an operation's answer lacks is empty; a name that a page does not give is an error."""

    def __str__(self) -> str:
        self._require_owner()
        return ""

    def __bool__(self) -> bool:
        self._require_owner()
        return False

    def _require_owner(self) -> None:
        if self._undefined_obj is missing:
            self._fail_with_undefined_error()


class Templates:
    """All templates. Texts are escaped."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._environment = Environment(
            loader=DictLoader(dict(sources)),
            autoescape=True,
            undefined=AbsentMember,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["_"] = _translated
        self._environment.globals["with_query"] = with_query
        self._environment.globals["bars"] = charts.bars
        self._environment.filters.update(
            word=_word,
            tone=TONES.get,
            time=_time,
            day=_day,
            ago=_ago,
            count=_count,
            amount=_amount,
            prose=_prose,
            duration=_duration,
            path_id=path_id,
            pretty=_pretty,
        )
        self._environment.tests["refused"] = lambda value: isinstance(value, OperationRefused)

    def render(self, name: str, language: str, values: Mapping[str, Any]) -> bytes:
        """Render a template to a page."""
        return self._environment.get_template(name).render(language=language, **values).encode()


def with_query(path: str, **fields: str | None) -> str:
    """Return a path with a query of the fields that are not empty.

    >>> with_query("/jobs", status="FAILED", page=None)
    '/jobs?status=FAILED'
    """
    given = {name: value for name, value in fields.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


@pass_context
def _translated(context: Context, text: str, **values: Any) -> str:
    """Translate a text, and fill in its values."""
    found = translate(context["language"], text)
    return Markup(found).format(**values) if values else found  # noqa: S704 - a text of the product


@pass_context
def _word(context: Context, code: str) -> str:
    """Say a code of the API in plain words."""
    known = WORDS.get(code) or code.replace("_", " ").capitalize()
    return translate(context["language"], known)


def _time(moment: float | str | Undefined | None) -> Markup:
    """Show a moment, in seconds since 1970, as date and time of day."""
    if not moment:
        return Markup("&ndash;")
    at = _at(moment)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M:%S} UTC"
    )


def _day(moment: float | str | Undefined | None) -> Markup:
    if not moment:
        return Markup("&ndash;")
    at = _at(moment)
    return Markup('<time datetime="{}">{}</time>').format(f"{at:%Y-%m-%d}", f"{at:%Y-%m-%d}")


@pass_context
def _ago(context: Context, moment: float | str | Undefined | None) -> Markup:
    """Show how long ago a moment was, with the moment itself as a hint."""
    if not moment:
        return Markup("&ndash;")
    at, language = _at(moment), context["language"]
    passed = (context["now"] - at).total_seconds()
    for length_s, one, many in (
        (86_400, "1 day ago", "{count} days ago"),
        (3600, "1 hour ago", "{count} hours ago"),
        (60, "1 minute ago", "{count} minutes ago"),
    ):
        if passed >= length_s:
            count = int(passed // length_s)
            text = translate(language, one if count == 1 else many).format(count=count)
            break
    else:
        text = translate(language, "just now")
    return Markup('<time datetime="{0}" title="{1}">{2}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M:%S} UTC", text
    )


def _at(moment: Any) -> datetime:
    if isinstance(moment, str):
        return datetime.fromisoformat(moment).astimezone(UTC)
    return datetime.fromtimestamp(moment, UTC)


def _count(number: int) -> str:
    """Group digits by narrow spaces, which every language reads."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _amount(number: float) -> str:
    """Show a number as short as it is exact, with grouped digits."""
    return _count(int(number)) if number == int(number) else f"{number:g}"


def _prose(text: str) -> Markup:
    """Show names in backquotes as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


def _duration(seconds: float) -> str:
    """Show a length of time: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    passed = timedelta(seconds=whole)
    minutes, rest_s = divmod(passed.seconds + 86_400 * passed.days, 60)
    if minutes < 60:
        return f"{minutes} min {rest_s} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _pretty(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)
