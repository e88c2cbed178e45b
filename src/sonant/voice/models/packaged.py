"""Find the speaker encoders that ship with Sonant by their ids.

GE2E is the light one. It also serves inside the pipeline, where thresholds belong to it: turns of speakers,
second voices, one voice under several ids. CAM++ is larger and takes more time. Voiceprints name their
encoder, and those of two encoders are never compared.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from sonant.voice.models import CAMPPLUS, ENCODER, Models, open_packaged_encoder, packaged_entries
from sonant.voice.models.campplus import CampplusEncoder, open_last_layer
from sonant.voice.models.embedding import Embedder, embed

#: The kinds in `models.json` of the encoders, by the names that the setting `encoder` has for them.
_KINDS = {"ge2e": ENCODER, "campplus": CAMPPLUS}


def packaged_encoder_ids() -> tuple[str, ...]:
    """List the ids of the encoders that ship, the light one first. Raises SetupError."""
    entries = packaged_entries()
    return tuple(str(entries[kind]["id"]) for kind in _KINDS.values())


def encoder_id(name: str) -> str:
    """Read the id of an encoder by its name, `ge2e` or `campplus`. Raises SetupError."""
    return str(packaged_entries()[_KINDS[name]]["id"])


def domain_model_id(name: str) -> str | None:
    """Give what the record of a domain with this encoder holds: None for GE2E, else the id.

    Raises SetupError.
    """
    return None if _KINDS[name] == ENCODER else encoder_id(name)


def packaged_entry(model_id: str) -> dict[str, Any] | None:
    """Read the entry of an encoder that ships; None for the id of any other model. Raises SetupError."""
    found = (packaged_entries()[kind] for kind in _KINDS.values())
    return next((entry for entry in found if entry["id"] == model_id), None)


def packaged_embedder(model_id: str, models: Models) -> Embedder | None:
    """Give the embedder of an encoder that ships, opened on first use; None for any other model.

    Raises SetupError if its file is damaged.
    """
    if model_id == models.encoder_id:
        return partial(embed, models=models)
    entry = packaged_entry(model_id)
    return None if entry is None or entry["kind"] != CAMPPLUS else _campplus()


def named_embedder(name: str, models: Models) -> Embedder:
    """Give the embedder of an encoder by its name. Raises SetupError."""
    return _campplus() if _KINDS[name] == CAMPPLUS else partial(embed, models=models)


@cache
def _campplus() -> CampplusEncoder:
    session, centre = open_packaged_encoder(CAMPPLUS)
    return CampplusEncoder(
        model_id=packaged_entries()[CAMPPLUS]["id"],
        session=session,
        centre=centre,
        last_layer=open_last_layer(session),
    )
