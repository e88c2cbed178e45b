"""Voice samples in rows: the vector sealed, the measures of its quality in columns of their own.

`QUALITY_COLUMNS` in the schema says which measures are stored and under which names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Table

from sonant.storage.crypto.vault import SpeakerSeal
from sonant.storage.database.schema import QUALITY_COLUMNS
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample


def sample_columns(table: Table) -> list[Column[Any]]:
    """List the columns of a table that `open_sample` reads."""
    return [table.c.model_id, table.c.vector_sealed, *quality_columns(table)]


def quality_columns(table: Table) -> list[Column[Any]]:
    """List the columns of a table that `read_quality` reads."""
    return [table.c[name] for name in QUALITY_COLUMNS.values() if name in table.c]


def sample_values(
    seal: SpeakerSeal, sample: VoiceSample, table: Table, *, context: str = ""
) -> dict[str, Any]:
    """Build the values of a sample's columns in a table, the vector sealed.

    `context` binds the sealed vector to its use; by default that of a voiceprint of the sample's model.
    """
    measures = {name: getattr(sample.quality, measure) for measure, name in QUALITY_COLUMNS.items()}
    return {
        "model_id": sample.model_id,
        "vector_sealed": seal.seal(context or voiceprint_context(sample.model_id), sample.to_bytes()),
        **{name: value for name, value in measures.items() if value is not None and name in table.c},
    }


def open_sample(seal: SpeakerSeal, row: Mapping[Any, Any], *, context: str = "") -> VoiceSample:
    """Open the sample of a row that has the columns of `sample_columns`. Raises SealBroken."""
    model_id = row["model_id"]
    data = seal.open(context or voiceprint_context(model_id), row["vector_sealed"])
    return VoiceSample.from_bytes(model_id, data, read_quality(row))


def read_quality(row: Mapping[Any, Any]) -> Quality:
    """Read the stored measures of a row; those without a column or a value are None."""
    stored = {measure: row[name] for measure, name in QUALITY_COLUMNS.items() if name in row}
    return Quality(**stored)


def voiceprint_context(model_id: str) -> str:
    """Name what a sealed voiceprint is bound to beside the person."""
    return f"voiceprint {model_id}"
