"""Rates are kept by Region"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    _make_anew(sa.Column("region", sa.String(64), nullable=False))


def downgrade() -> None:
    _make_anew()


def _make_anew(*regions: sa.Column[str]) -> None:
    """All buckets are full then: no harm."""
    op.drop_table("rate_buckets")
    op.create_table(
        "rate_buckets",
        sa.Column("account_id", sa.String(12), nullable=False),
        *regions,
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("calls", sa.Float(), nullable=False),
        sa.Column("filled_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", *(one.name for one in regions), "operation", name=op.f("pk_rate_buckets")
        ),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE rate_buckets SET UNLOGGED")
