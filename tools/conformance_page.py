"""Write docs/conformance.md from the tests' data: `tools/conformance_page.py > docs/conformance.md`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance"))

from fault_scenarios import CANNOT_OCCUR, ERRORS, SCENARIOS
from sample_requests import CLIENTS, OWN, SERVED

from sonant.gateway.models import load_models

_HEAD = """# Conformance

What AWS's own clients are made to do with the service in the tests: each operation's right request through
each client, and through boto3 every error that the service model lets an operation answer.
`tests/conformance` holds the requests (`sample_requests.py`) and the faults (`fault_scenarios.py`), from
which this page is written. Every answer of these services, a success or an error, is judged by the models as
strictly as a typed client would (`strict_answers.py`): status, headers, members, and each value's type and
form.

Each cell says how many faults of that kind are brought about, with the ConflictTypes or ResourceTypes that
they are told by; `never` is an error of the model that cannot occur (why, stands below), `-` one that the
model does not have. The Node.js client (`@aws-sdk/client-voice-id`) knows AWS's model only, so Sonant's own
operations go through one of its commands with their name and members put in.

`make test-all` has more clients run the main job (create a domain, start an enrollment job, describe it until
it has ended, read the result): AWS CLI 2, both SDKs for Go, the second SDK for JavaScript, and the boto3 of
the week in which Voice ID began. It also puts nginx and HAProxy between boto3 and the service, set up as
[Coming from Voice ID](coming-from-voice-id.md) says.

"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD, "## Voice ID\n\n", _table(set(SERVED) - OWN)]
    if absent := sorted({one.name for one in load_models().operations.values()} - set(SERVED)):
        parts.append(f"\nNot served: {', '.join(absent)}.\n")
    parts += ["\n## Sonant's own\n\n", _table(OWN)]
    parts.append("\n## What never occurs\n\n")
    parts += [f"- {name}, {error}: {why}\n" for (name, error), why in sorted(CANNOT_OCCUR.items())]
    return "".join(parts)


def _table(names: set[str] | frozenset[str]) -> str:
    heads = ["operation", *CLIENTS, *ERRORS]
    lines = [heads, ["---"] * len(heads)]
    for name in sorted(names):
        made = ["yes" if name in operations else "no" for operations in CLIENTS.values()]
        lines.append([name, *made, *(_cell(name, error) for error in ERRORS)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(name: str, error: str) -> str:
    if (name, error) in CANNOT_OCCUR:
        return "never"
    if f"{error}Exception" not in SERVED[name].errors:
        return "-"
    tried = [one for one in SCENARIOS if (one.operation, one.error) == (name, error)]
    details = sorted({one.detail for one in tried if one.detail})
    return " ".join((str(len(tried)), *(f"`{detail}`" for detail in details)))


if __name__ == "__main__":
    print(page(), end="")
