"""Fraudsters, consents, key changes, suspension"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "consents",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("principal_arn", sa.String(length=2048), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_consents")),
    )
    op.create_table(
        "fraudsters",
        sa.Column("fraudster_id", sa.String(length=25), nullable=False),
        sa.Column("domain_id", sa.String(length=22), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_fraudsters_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("fraudster_id", name=op.f("pk_fraudsters")),
    )
    op.create_index(
        op.f("ix_fraudsters_domain_id_created_at_fraudster_id"),
        "fraudsters",
        ["domain_id", "created_at", "fraudster_id"],
        unique=False,
    )
    op.create_table(
        "watchlist_members",
        sa.Column("watchlist_id", sa.String(length=22), nullable=False),
        sa.Column("fraudster_id", sa.String(length=25), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fraudster_id"],
            ["fraudsters.fraudster_id"],
            name=op.f("fk_watchlist_members_fraudster_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["watchlist_id"],
            ["watchlists.watchlist_id"],
            name=op.f("fk_watchlist_members_watchlist_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("watchlist_id", "fraudster_id", name=op.f("pk_watchlist_members")),
    )
    op.create_index(
        op.f("ix_watchlist_members_fraudster_id"), "watchlist_members", ["fraudster_id"], unique=False
    )
    op.add_column("domains", sa.Column("version", sa.Integer(), server_default="0", nullable=False))
    op.add_column("domains", sa.Column("suspended_at", sa.BigInteger(), nullable=True))
    op.add_column("domains", sa.Column("update_status", sa.String(length=16), nullable=True))
    op.add_column("domains", sa.Column("update_old_key_arn", sa.String(length=2048), nullable=True))
    op.add_column("domains", sa.Column("update_message", sa.Text(), nullable=True))
    op.add_column("domains", sa.Column("update_attempts", sa.Integer(), server_default="0", nullable=False))
    op.add_column("domains", sa.Column("update_due_at", sa.BigInteger(), nullable=True))
    op.create_index(
        op.f("ix_speakers_status_last_accessed_at"), "speakers", ["status", "last_accessed_at"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_speakers_status_last_accessed_at"), table_name="speakers")
    op.drop_column("domains", "update_due_at")
    op.drop_column("domains", "update_attempts")
    op.drop_column("domains", "update_message")
    op.drop_column("domains", "update_old_key_arn")
    op.drop_column("domains", "update_status")
    op.drop_column("domains", "suspended_at")
    op.drop_column("domains", "version")
    op.drop_index(op.f("ix_watchlist_members_fraudster_id"), table_name="watchlist_members")
    op.drop_table("watchlist_members")
    op.drop_index(op.f("ix_fraudsters_domain_id_created_at_fraudster_id"), table_name="fraudsters")
    op.drop_table("fraudsters")
    op.drop_table("consents")
