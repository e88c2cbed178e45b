"""Find the speaker encoders that ship with Sonant by their ids.

GE2E is the light one. It also serves inside the pipeline, where thresholds belong to it: turns of speakers,
second voices, one voice under several ids. CAM++ is larger and takes more time. Voiceprints name their
encoder, and those of two encoders are never compared.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from sonant.voice.models import CAMPPLUS, ENCODER, Models, open_packaged_encoder, packaged_entries
from sonant.voice.models.campplus import CampplusEncoder
from sonant.voice.models.embedding import Embedder, embed

_DEFAULT = ENCODER
"""The kind, in `models.json`, of the encoder that new domains and the library use."""


def packaged_encoder_ids() -> tuple[str, ...]:
    """List the ids of the encoders that ship, the default first. Raises SetupError."""
    entries = packaged_entries()
    kinds = sorted((ENCODER, CAMPPLUS), key=lambda kind: kind != _DEFAULT)
    return tuple(str(entries[kind]["id"]) for kind in kinds)


def default_encoder_id() -> str:
    """Read the id of the encoder that new domains use. Raises SetupError."""
    return packaged_encoder_ids()[0]


def new_domain_model_id() -> str | None:
    """Give what the record of a new domain holds: None for GE2E, else the id. Raises SetupError."""
    return None if _DEFAULT == ENCODER else default_encoder_id()


def packaged_entry(model_id: str) -> dict[str, Any] | None:
    """Read the entry of an encoder that ships; None for the id of any other model. Raises SetupError."""
    found = (packaged_entries()[kind] for kind in (ENCODER, CAMPPLUS))
    return next((entry for entry in found if entry["id"] == model_id), None)


def packaged_embedder(model_id: str, models: Models) -> Embedder | None:
    """Give the embedder of an encoder that ships, opened on first use; None for any other model.

    Raises SetupError if its file is damaged.
    """
    if model_id == models.encoder_id:
        return partial(embed, models=models)
    entry = packaged_entry(model_id)
    return None if entry is None or entry["kind"] != CAMPPLUS else _campplus().embed


def default_embedder(models: Models) -> Embedder:
    """Give the embedder that new domains use. Raises SetupError."""
    return _campplus().embed if _DEFAULT == CAMPPLUS else partial(embed, models=models)


@cache
def _campplus() -> CampplusEncoder:
    session, centre = open_packaged_encoder(CAMPPLUS)
    return CampplusEncoder(model_id=packaged_entries()[CAMPPLUS]["id"], session=session, centre=centre)
