"""Fingerprints of enrolled speech, for the replay guard"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "fingerprints",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.String(22), nullable=False),
        sa.Column("speaker_id", sa.String(25), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_fingerprints_domain_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["speaker_id"],
            ["speakers.speaker_id"],
            name=op.f("fk_fingerprints_speaker_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_fingerprints")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_fingerprints_domain_id_number"), "fingerprints", ["domain_id", "number"])
    op.create_index(op.f("ix_fingerprints_speaker_id"), "fingerprints", ["speaker_id"])


def downgrade() -> None:
    op.drop_table("fingerprints")
