"""A voice model for each domain, and the change from one to another"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("domains", sa.Column("model_id", sa.String(64), nullable=True))
    op.create_table(
        "model_upgrades",
        sa.Column("domain_id", sa.String(22), nullable=False),
        sa.Column("old_model_id", sa.String(64), nullable=True),
        sa.Column("new_model_id", sa.String(64), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("switched_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_owner", sa.String(64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_model_upgrades_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("domain_id", name=op.f("pk_model_upgrades")),
    )
    for table, person, persons in (
        ("shadow_voiceprints", "speaker_id", "speakers"),
        ("fraudster_shadow_voiceprints", "fraudster_id", "fraudsters"),
    ):
        op.create_table(
            table,
            sa.Column(person, sa.String(25), nullable=False),
            sa.Column("model_id", sa.String(64), nullable=False),
            sa.Column("vector_sealed", sa.LargeBinary(), nullable=True),
            sa.Column("problem", sa.Text(), nullable=True),
            sa.Column("other_model_id", sa.String(64), nullable=True),
            sa.Column("other_vector_sealed", sa.LargeBinary(), nullable=True),
            sa.ForeignKeyConstraint(
                [person], [f"{persons}.{person}"], name=op.f(f"fk_{table}_{person}"), ondelete="CASCADE"
            ),
            sa.PrimaryKeyConstraint(person, name=op.f(f"pk_{table}")),
        )


def downgrade() -> None:
    op.drop_table("fraudster_shadow_voiceprints")
    op.drop_table("shadow_voiceprints")
    op.drop_table("model_upgrades")
    op.drop_column("domains", "model_id")
