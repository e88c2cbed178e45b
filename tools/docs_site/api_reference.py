"""Write the API reference of the documentation site from the two service models.

One page for each operation, an index of each API, and the catalogue of errors. Nothing of it is stored: the
models are the source, so a page cannot differ from what the service checks and returns.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from html.parser import HTMLParser
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from sonant import errors
from sonant.gateway.models import DATA_PATH, Operation, Shape, load_models
from sonant.gateway.samples import sample
from sonant.iam import OWN, VOICE_ID

FOLDER = "api"
_SECTIONS = {VOICE_ID: ("Voice ID's operations", "voice-id"), OWN: ("Sonant's own operations", "sonant")}


_UNITS = {"string": " characters", "list": " items"}
#: Operations that the list of errors names one by one.
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A generated page."""

    path: str
    """Below the site's source folder, such as `api/CreateDomain.md`."""
    title: str
    text: str
    group: str = ""
    """Where it stands in the navigation; empty above the groups."""


def pages() -> list[Page]:
    """Write all pages: the index, the errors, and one page for each operation, by service and name."""
    operations = sorted(
        load_models().operations.values(), key=lambda one: (one.service != VOICE_ID, one.name)
    )
    return [
        Page(path=f"{FOLDER}/index.md", title="API reference", text=_index(operations)),
        Page(path=f"{FOLDER}/errors.md", title="Errors", text=_errors(operations)),
        *(
            Page(
                path=f"{FOLDER}/{one.name}.md",
                title=one.name,
                text=_operation(one),
                group=_SECTIONS[one.service][0],
            )
            for one in operations
        ),
    ]


# --- the index and the errors -------------------------------------------------------------------------


def _index(operations: list[Operation]) -> str:
    lines = [
        "# API reference",
        "",
        "Every operation is a `POST /` of AWS JSON 1.0, signed with Signature Version 4 for the service "
        "`voiceid`. The AWS SDKs and the AWS CLI send such requests to the address that `--endpoint-url` "
        "names. They know Voice ID's operations; `sonant client install` teaches them Sonant's own, as the "
        "service `sonant`.",
    ]
    for service, (title, _) in _SECTIONS.items():
        lines += ["", f"## {title}", "", "| operation | what it does |", "|---|---|"]
        lines += [
            f"| [{one.name}]({one.name}.md) | {_cell(_first_sentence(_about(one)))} |"
            for one in operations
            if one.service == service
        ]
    return "\n".join([*lines, ""])


def _errors(operations: list[Operation]) -> str:
    modelled = {one.code: one for one in _leaves(errors.ModelledError) if "code" in vars(one)}
    others = {one.code: one for one in _leaves(errors.GatewayError)}
    lines = [
        "# Errors",
        "",
        "An error is a JSON object with `__type`, the code, and `Message`. SDKs raise it as an exception of "
        "that name. Requests that were throttled or got a 5xx may be sent again; the SDKs do so themselves.",
        "",
        "## Errors of operations",
        "",
        "| code | status | meaning | operations |",
        "|---|---|---|---|",
    ]
    for code, kind in sorted(modelled.items()):
        raised = [one.name for one in operations if code in one.errors]
        where = f"{len(raised)} of {len(operations)}"
        if len(raised) <= _MOST_NAMED:
            where = ", ".join(f"[{one}]({one}.md)" for one in raised)
        lines.append(
            f"| `{code}` | {kind.http_status} | {_cell(_first_sentence(_about_error(code)))} | {where} |"
        )
    lines += [
        "",
        "## Conflicts",
        "",
        "A `ConflictException` says in `ConflictType` what the conflict is:",
        "",
        "| ConflictType | message |",
        "|---|---|",
        *(f"| `{name}` | {_cell(text)} |" for name, text in errors.Conflict.TEXTS.items()),
        "",
        "## Errors before an operation is known",
        "",
        "These are not in the service models; their names are those that AWS's services use.",
        "",
        "| code | status |",
        "|---|---|",
        *(f"| `{code}` | {kind.http_status} |" for code, kind in sorted(others.items())),
    ]
    return "\n".join([*lines, ""])


def _leaves(kind: type[errors.WireError]) -> Iterator[type[errors.WireError]]:
    for one in kind.__subclasses__():
        if hasattr(one, "code"):
            yield one
        yield from _leaves(one)


def _about_error(code: str) -> str:
    for service in _SECTIONS:
        model = _service_model(service)
        for name in model.operation_names:
            for shape in model.operation_model(name).error_shapes:
                if shape.name == code:
                    return str(shape.documentation)
    return ""


# --- one operation ------------------------------------------------------------------------------------


def _operation(operation: Operation) -> str:
    group = _SECTIONS[operation.service][1]
    lines = [
        f"# {operation.name}",
        "",
        plain(_about(operation)),
        "",
        f"- Target: `X-Amz-Target: {operation.target}`",
        f"- Permission: `{operation.service}:{operation.name}`",
        f"- Command: `sonant {group} {_command(operation.name)}`"
        if group == "voice-id"
        else f"- Command with AWS's CLI: `aws sonant {_command(operation.name)}`",
        "",
        "## Request",
        "",
        *_members(operation.input_shape),
        "## Response",
        "",
        *_members(operation.output_shape),
        "## Errors",
        "",
        ", ".join(f"[`{code}`](errors.md)" for code in sorted(operation.errors)) or "None of its own.",
        "",
        "## Example",
        "",
        "A request with every member:",
        "",
        *_json(operation.input_shape),
    ]
    if operation.output_shape is not None and operation.output_shape.members:
        lines += ["The response:", "", *_json(operation.output_shape)]
    return "\n".join(lines)


def _members(shape: Shape | None) -> list[str]:
    lines = [] if shape is None else list(_described(shape))
    return [*(lines or ["No members."]), ""]


def _described(shape: Shape, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a list item for each member, and behind it those of the members within it."""
    indent = "  " * len(above)
    for name, member in shape.members.items():
        inner, path = member, name
        while inner.type_name == "list":
            inner, path = inner.member, f"{path}[]"
        facts = [
            member.type_name,
            *(["**required**"] if name in shape.required_members else []),
            *_limits(inner),
        ]
        meaning = " ".join(plain(member.documentation).split())
        yield f"{indent}- `{path}` ({', '.join(facts)}){': ' if meaning else ''}{meaning}"
        if inner.type_name == "structure" and inner.name not in above:
            yield from _described(inner, (*above, shape.name))


def _limits(shape: Shape) -> list[str]:
    facts, limits = [], shape.metadata
    if getattr(shape, "enum", None):
        facts.append(" or ".join(f"`{one}`" for one in shape.enum))
    if "min" in limits or "max" in limits:
        facts.append(_range(limits.get("min"), limits.get("max"), _UNITS.get(shape.type_name, "")))
    if "pattern" in limits:
        facts.append(f"`{limits['pattern']}`")
    return facts


def _range(least: float | None, most: float | None, unit: str) -> str:
    if least == most:
        return f"{least}{unit}"
    if most is None:
        return f"at least {least}{unit}"
    return f"at most {most}{unit}" if least is None else f"{least} to {most}{unit}"


def _json(shape: Shape | None) -> list[str]:
    value = {} if shape is None else sample(shape)
    return ["```json", json.dumps(value, indent=2, default=_on_the_wire), "```", ""]


def _on_the_wire(value: datetime | bytes) -> float | str:
    """AWS JSON 1.0 has times as seconds since 1970, and bytes in base64."""
    return b64encode(value).decode() if isinstance(value, bytes) else value.timestamp()


def _command(operation: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", operation).lower()


# --- texts of the models ------------------------------------------------------------------------------


class _Plain(HTMLParser):
    """Takes the text out of the models' HTML; code stays marked."""

    _BREAKS: Mapping[str, str] = {"p": "\n\n", "li": "\n- ", "br": "\n", "note": "\n\n"}

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_starttag(self, tag: str, _attributes: Any) -> None:
        if tag == "p" and self.text.endswith("- "):
            return  # the paragraph of a list item
        self.text += "`" if tag == "code" else self._BREAKS.get(tag, "")

    def handle_endtag(self, tag: str) -> None:
        self.text += "`" if tag == "code" else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def plain(documentation: str) -> str:
    """Turn a model's documentation, which is HTML, into Markdown without links."""
    parser = _Plain()
    parser.feed(documentation)
    text = re.sub(r"[ \t\r\f\v]*\n[ \t]*", "\n", re.sub(r"[ \t]+", " ", parser.text))
    return re.sub(r"\n{3,}", "\n\n", text).strip().replace("<", "&lt;")


def _first_sentence(documentation: str) -> str:
    first, _, _ = plain(documentation).replace("\n", " ").partition(". ")
    return first.rstrip(".") + "." if first else ""


def _cell(text: str) -> str:
    """Put a text into one cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


def _about(operation: Operation) -> str:
    return str(_service_model(operation.service).operation_model(operation.name).documentation)


@cache
def _service_model(service: str) -> ServiceModel:
    if service == VOICE_ID:
        loader, name = Loader([Loader.BUILTIN_DATA_PATH], include_default_search_paths=False), "voice-id"
    else:
        loader, name = Loader([str(DATA_PATH)], include_default_search_paths=False), "sonant"
    return ServiceModel(loader.load_service_model(name, "service-2"), name)
