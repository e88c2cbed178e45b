"""Budgets of answers about fraudsters and of a whole account; exact scores of results are sealed"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "fraudster_probes",
        sa.Column("fraudster_id", sa.String(25), nullable=False),
        sa.Column("principal_arn", sa.String(2048), nullable=False),
        sa.Column("probe", sa.LargeBinary(32), nullable=False),
        sa.Column("band", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fraudster_id"],
            ["fraudsters.fraudster_id"],
            name=op.f("fk_fraudster_probes_fraudster_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("fraudster_id", "principal_arn", "probe", name=op.f("pk_fraudster_probes")),
    )
    op.create_index(op.f("ix_fraudster_probes_created_at"), "fraudster_probes", ["created_at"])
    op.add_column(
        "score_misses", sa.Column("budgeted", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    op.add_column("session_results", sa.Column("exact_sealed", sa.LargeBinary()))


def downgrade() -> None:
    op.drop_column("session_results", "exact_sealed")
    op.drop_column("score_misses", "budgeted")
    op.drop_table("fraudster_probes")
