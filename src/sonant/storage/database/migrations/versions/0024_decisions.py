"""Decisions of calls as columns: calls are found by them and counted"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

_INDEX = ["domain_id", "purpose", "decision", "decided_at", "reasons"]


def upgrade() -> None:
    op.add_column("session_results", sa.Column("domain_id", sa.String(22)))
    op.add_column("session_results", sa.Column("decided_at", sa.BigInteger()))
    op.add_column("session_results", sa.Column("decision", sa.String(32)))
    op.add_column("session_results", sa.Column("reasons", sa.String(64)))
    op.create_index(op.f("ix_session_results_decisions"), "session_results", _INDEX)


def downgrade() -> None:
    op.drop_index(op.f("ix_session_results_decisions"), "session_results")
    for name in ("reasons", "decision", "decided_at", "domain_id"):
        op.drop_column("session_results", name)
