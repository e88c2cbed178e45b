"""The rows that hold embeddings, and their move from one template space of their domain to the next.

`EMBEDDINGS` lists all tables of embeddings; a test compares it with the schema. Voices of dry runs are in
`job_entries`, in a space of their own (`spaces_of_job`), and are gone with the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, Connection, Select, Table, and_, func, or_, select, tuple_, update

from sonant.errors import SealBroken
from sonant.storage.crypto.template_spaces import TemplateSpaces
from sonant.storage.crypto.vault import SpeakerSeal, Vault
from sonant.storage.database.bound_connection import unverified, without_changed_rows
from sonant.storage.database.schema import (
    fraudster_shadow_voiceprints,
    fraudster_voiceprints,
    fraudsters,
    session_hearings,
    sessions,
    shadow_voiceprints,
    speaker_keys,
    speakers,
    voiceprints,
)
from sonant.storage.repositories.session_samples import VECTOR, open_parts, seal_parts
from sonant.storage.repositories.voice_samples import open_sample, seal_vector

Position = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingTable:
    """A table of embeddings that are sealed under the keys of speakers, fraudsters or sessions."""

    table: Table
    owner: Literal["speaker", "fraudster", "session"]
    use: str = ""
    """As in `voice_samples.vector_context`."""
    has_parts: bool = False
    """Whether rows also hold embeddings of parts of the speech."""

    @property
    def owner_id(self) -> Column[Any]:
        return self.table.c[f"{self.owner}_id"]

    @property
    def key(self) -> list[Column[Any]]:
        """The primary key's columns."""
        return list(self.table.primary_key)

    def of_domain(self, columns: Sequence[Column[Any]], domain_id: str, before: int) -> Select[Any]:
        """Select rows of a domain that are in a space before a version."""
        people = {"speaker": speakers, "fraudster": fraudsters, "session": sessions}[self.owner]
        query = select(*columns).join(people, people.c[self.owner_id.name] == self.owner_id)
        if self.owner == "speaker":
            query = query.join(speaker_keys, speaker_keys.c.speaker_id == self.owner_id)
        return query.where(people.c.domain_id == domain_id, self.table.c.template_version < before)

    @property
    def wrapped(self) -> Column[Any]:
        """The owner's wrapped data key."""
        return {
            "speaker": speaker_keys.c.wrapped,
            "fraudster": fraudsters.c.wrapped,
            "session": sessions.c.wrapped,
        }[self.owner]

    def seal(self, vault: Vault, row: Mapping[Any, Any]) -> SpeakerSeal:
        """Open the data key of a row's owner. Raises SealBroken."""
        open_key = {"speaker": vault.speaker, "fraudster": vault.fraudster, "session": vault.session}
        return open_key[self.owner](row[self.owner_id.name], row["wrapped"])


#: Every table that holds embeddings.
EMBEDDINGS = (
    EmbeddingTable(table=voiceprints, owner="speaker"),
    EmbeddingTable(table=shadow_voiceprints, owner="speaker"),
    EmbeddingTable(table=fraudster_voiceprints, owner="fraudster"),
    EmbeddingTable(table=fraudster_shadow_voiceprints, owner="fraudster"),
    EmbeddingTable(table=session_hearings, owner="session", use=VECTOR, has_parts=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What moving a batch of rows has done."""

    moved: int
    damaged: int
    """Rows that stay, since their MAC does not fit or they do not open."""
    last: Position | None
    """The key of the last row; None at the end of the table."""


def move_batch(
    connection: Connection,
    vault: Vault,
    spaces: TemplateSpaces,
    place: EmbeddingTable,
    after: Position | None,
    limit: int,
) -> Batch:
    """Move the next rows of a domain behind `after` to the present space. The domain must be locked."""
    domain_id = vault.templates.domain_id
    keys = place.of_domain(place.key, domain_id, spaces.present).order_by(*place.key).limit(limit)
    if after is not None:
        keys = keys.where(_behind(place.key, after))
    found: list[Position] = [
        tuple(row) for row in connection.execute(unverified(keys, "counts those that were changed"))
    ]
    if not found:
        return Batch(moved=0, damaged=0, last=None)
    rows = place.of_domain(_columns(place), domain_id, spaces.present).where(_among(place.key, found))
    moved = sum(
        _move(connection, vault, spaces, place, row)
        for row in connection.execute(without_changed_rows(rows)).mappings().all()
    )
    last = found[-1] if len(found) == limit else None
    return Batch(moved=moved, damaged=len(found) - moved, last=last)


def count_before(connection: Connection, domain_id: str, version: int) -> int:
    """Count the rows of a domain that are in a space before a version."""
    queries = (
        select(func.count()).select_from(place.of_domain(place.key, domain_id, version).subquery())
        for place in EMBEDDINGS
    )
    return sum(int(connection.execute(query).scalar_one()) for query in queries)


def _columns(place: EmbeddingTable) -> list[Column[Any]]:
    table = place.table
    parts = [table.c.parts_sealed] if place.has_parts else []
    columns = [*place.key, table.c.model_id, table.c.template_version, table.c.vector_sealed, *parts]
    return [*columns, place.wrapped]


def _move(
    connection: Connection,
    vault: Vault,
    spaces: TemplateSpaces,
    place: EmbeddingTable,
    row: Mapping[Any, Any],
) -> bool:
    """Move one row; whether that was possible, or somebody else has replaced it meanwhile."""
    try:
        values = _moved_values(place.seal(vault, row), spaces, place, row)
    except SealBroken:
        return False
    table = place.table
    as_read = [table.c.template_version == row["template_version"]]
    if row["vector_sealed"] is not None:
        as_read.append(table.c.vector_sealed == row["vector_sealed"])
    own_key = [column == row[column.name] for column in place.key]
    connection.execute(update(table).where(*own_key, *as_read).values(values))
    return True


def _moved_values(
    seal: SpeakerSeal, spaces: TemplateSpaces, place: EmbeddingTable, row: Mapping[Any, Any]
) -> dict[str, Any]:
    values: dict[str, Any] = {"template_version": spaces.present}
    if row["vector_sealed"] is None:  # a shadow that could not be made
        return values
    # The measures of quality stay in their columns; shadows have none.
    sample = open_sample(seal, spaces, {"net_speech_s": 0.0, **row}, use=place.use)
    values["vector_sealed"] = seal_vector(seal, spaces, sample, use=place.use)
    if place.has_parts:
        values["parts_sealed"] = seal_parts(seal, spaces, open_parts(seal, spaces, row, sample))
    return values


def _among(keys: Sequence[Column[Any]], wanted: Sequence[Position]) -> Any:
    if len(keys) == 1:
        return keys[0].in_([one[0] for one in wanted])
    return tuple_(*keys).in_(wanted)


def _behind(keys: Sequence[Column[Any]], last: Position) -> Any:
    """Return the condition of rows behind the one with the key `last`."""
    return or_(
        *(
            and_(
                *(key == value for key, value in zip(keys[:at], last[:at], strict=True)), keys[at] > last[at]
            )
            for at in range(len(keys))
        )
    )
