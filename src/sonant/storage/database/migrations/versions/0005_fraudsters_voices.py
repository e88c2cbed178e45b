"""Voiceprints of fraudsters, and a count of what changes on a domain's watchlists"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "domains", sa.Column("fraudsters_version", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.create_table(
        "fraudster_voiceprints",
        sa.Column("fraudster_id", sa.String(25), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("vector_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("audio_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("net_speech_s", sa.Float(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fraudster_id"],
            ["fraudsters.fraudster_id"],
            name=op.f("fk_fraudster_voiceprints_fraudster_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("fraudster_id", name=op.f("pk_fraudster_voiceprints")),
    )


def downgrade() -> None:
    op.drop_table("fraudster_voiceprints")
    op.drop_column("domains", "fraudsters_version")
