"""Comparisons with a speaker that did not match: they are counted, and lock the speaker"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.create_table(
        "score_misses",
        sa.Column("speaker_id", sa.String(25), nullable=False),
        sa.Column("principal_arn", sa.String(2048), nullable=False),
        sa.Column("probe", sa.LargeBinary(32), nullable=False),
        sa.Column("rejected", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["speaker_id"],
            ["speakers.speaker_id"],
            name=op.f("fk_score_misses_speaker_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("speaker_id", "principal_arn", "probe", name=op.f("pk_score_misses")),
    )
    op.create_index(op.f("ix_score_misses_created_at"), "score_misses", ["created_at"])


def downgrade() -> None:
    op.drop_table("score_misses")
