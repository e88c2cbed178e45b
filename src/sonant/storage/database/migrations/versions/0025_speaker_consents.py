"""Consents of speakers, and domains that require one before an enrollment"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column(
        "domains", sa.Column("consent_required", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_table(
        "speaker_consents",
        sa.Column("consent_id", sa.String(22), nullable=False),
        sa.Column("domain_id", sa.String(22), nullable=False),
        sa.Column("customer_id_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("withdrawn_at", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary()),
        sa.ForeignKeyConstraint(
            ["domain_id"],
            ["domains.domain_id"],
            name=op.f("fk_speaker_consents_domain_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("consent_id", name=op.f("pk_speaker_consents")),
    )
    op.create_index(
        op.f("ix_speaker_consents_speaker"),
        "speaker_consents",
        ["domain_id", "customer_id_hash", "created_at", "consent_id"],
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_speaker_consents_speaker"), "speaker_consents")
    op.drop_table("speaker_consents")
    op.drop_column("domains", "consent_required")
