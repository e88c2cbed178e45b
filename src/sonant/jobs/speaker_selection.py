"""Sonant's own members of a manifest request: whose voice to take from recordings of both parties.

    "SpeakerSelection": "RECURRING",
    "AgentVoices": [{"S3Uri": "s3://calls/agent-17.wav", "ChannelId": 1}]

Without them a request means what it means to Voice ID: the channel has the customer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

CHANNEL, RECURRING = "CHANNEL", "RECURRING"
SELECTIONS = (CHANNEL, RECURRING)
SELECTION, AGENTS = "SpeakerSelection", "AgentVoices"


def selection_of(request: Mapping[Any, Any], default: str) -> str:
    """Return the selection of a request without faults; `default` is that of requests that name none."""
    return str(request.get(SELECTION, default))


def selection_fault(
    request: Mapping[Any, Any],
    *,
    default: str | None,
    max_files: int,
    file_fault: Callable[[Any], str],
) -> str:
    """Find what is wrong with these members, with the name of the member; empty if nothing is.

    `default` is the selection of requests that name none, None in manifests of fraudsters, who are not
    selected. `file_fault` finds what is wrong with a recording.
    """
    selection = request.get(SELECTION, default or CHANNEL)
    if selection not in SELECTIONS:
        return f"{SELECTION} must be one of: {', '.join(SELECTIONS)}"
    if default is None and selection != CHANNEL:
        return f"{SELECTION} {selection} is for speakers only: name recordings of the fraudster alone"
    agents = request.get(AGENTS)
    if agents is None:
        return ""
    if selection != RECURRING:
        return f"{AGENTS} is used with {SELECTION} {RECURRING} only"
    if not isinstance(agents, list) or not 1 <= len(agents) <= max_files:
        return f"{AGENTS} must be a list of 1 to {max_files} recordings, one for each agent"
    for number, item in enumerate(agents, 1):
        if wrong := file_fault(item):
            return f"{AGENTS} {number}: {wrong}"
    return ""
