"""What several processes share: counts of speakers, rates, fingerprints; and the lines of voiceprints"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "speaker_counts",
        sa.Column("domain_id", sa.String(22), nullable=False),
        sa.Column("present", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_speaker_counts_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("domain_id", name=op.f("pk_speaker_counts")),
    )
    op.execute(
        "INSERT INTO speaker_counts (domain_id, present) "
        "SELECT domain_id, count(*) FROM speakers GROUP BY domain_id"
    )
    op.create_table(
        "rate_buckets",
        sa.Column("account_id", sa.String(12), nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("calls", sa.Float(), nullable=False),
        sa.Column("filled_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "operation", name=op.f("pk_rate_buckets")),
    )
    op.add_column("voiceprints", sa.Column("low_cut", sa.Boolean(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE rate_buckets SET UNLOGGED")  # after a crash all buckets are full: no harm
        op.alter_column("fingerprints", "number", type_=sa.BigInteger())
        op.execute("ALTER SEQUENCE fingerprints_number_seq AS bigint")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER SEQUENCE fingerprints_number_seq AS integer")
        op.alter_column("fingerprints", "number", type_=sa.Integer())
    op.drop_column("voiceprints", "low_cut")
    op.drop_table("rate_buckets")
    op.drop_table("speaker_counts")
