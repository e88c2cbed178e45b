"""Voice samples in rows: the vector protected and sealed, the measures of its quality in columns.

Embeddings are stored by `sample_values` and `seal_vector` only, which bring them to the domain's present
template space first. `QUALITY_COLUMNS` in the schema says which measures are stored and under which names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Table

from sonant.errors import SealBroken, TemplateMismatch
from sonant.storage.crypto.template_spaces import UNPROTECTED, TemplateSpaces
from sonant.storage.crypto.vault import SpeakerSeal
from sonant.storage.database.schema import QUALITY_COLUMNS
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample


def sample_columns(table: Table) -> list[Column[Any]]:
    """List the columns of a table that `open_sample` reads."""
    return [table.c.model_id, table.c.template_version, table.c.vector_sealed, *quality_columns(table)]


def quality_columns(table: Table) -> list[Column[Any]]:
    """List the columns of a table that `read_quality` reads."""
    return [table.c[name] for name in QUALITY_COLUMNS.values() if name in table.c]


def sample_values(
    seal: SpeakerSeal, spaces: TemplateSpaces, sample: VoiceSample, table: Table, *, use: str = ""
) -> dict[str, Any]:
    """Build the values of a sample's columns in a table: the vector in the present space, and sealed.

    `use` is as in `vector_context`.
    """
    measures = {name: getattr(sample.quality, measure) for measure, name in QUALITY_COLUMNS.items()}
    return {
        "model_id": sample.model_id,
        "template_version": spaces.present,
        "vector_sealed": seal_vector(seal, spaces, sample, use=use),
        **{name: value for name, value in measures.items() if value is not None and name in table.c},
    }


def seal_vector(seal: SpeakerSeal, spaces: TemplateSpaces, sample: VoiceSample, *, use: str = "") -> bytes:
    """Bring a sample to the present space and seal its vector; the space's version must be stored with it."""
    context = vector_context(sample.model_id, spaces.present, use=use)
    return seal.seal(context, spaces.protect(sample).to_bytes())


def open_sample(
    seal: SpeakerSeal, spaces: TemplateSpaces, row: Mapping[Any, Any], *, use: str = ""
) -> VoiceSample:
    """Open the sample of a row that has the columns of `sample_columns`, in the present space.

    Raises SealBroken, also for a row in a space whose key was deleted.
    """
    model_id, version = row["model_id"], row["template_version"]
    data = seal.open(vector_context(model_id, version, use=use), row["vector_sealed"])
    try:
        return spaces.sample_of_row(model_id, data, version, read_quality(row))
    except TemplateMismatch:
        raise SealBroken("sealed value: in a template space whose key was deleted") from None


def read_quality(row: Mapping[Any, Any]) -> Quality:
    """Read the stored measures of a row; those without a column or a value are None."""
    stored = {measure: row[name] for measure, name in QUALITY_COLUMNS.items() if name in row}
    return Quality(**stored)


def vector_context(model_id: str, version: int, *, use: str = "") -> str:
    """Name what a sealed vector is bound to beside the person: its use and its template space.

    The use is by default that of a voiceprint of a voice model; `version` is the space's.
    """
    context = use or f"voiceprint {model_id}"
    return context if version == UNPROTECTED else f"{context} in space {version}"
