"""Own calibrations, the noise of voiceprints, and how alike repeated enrollments of one speaker are"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("voiceprints", sa.Column("snr_db", sa.Float(), nullable=True))
    op.create_table(
        "calibrations",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("domain_id", sa.String(22), nullable=True),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("shift", sa.Float(), nullable=False),
        sa.Column("scale", sa.Float(), nullable=False),
        sa.Column("supported_log10_far", sa.Float(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_calibrations_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_calibrations")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_calibrations_domain_id_model_id"), "calibrations", ["domain_id", "model_id"])
    op.create_table(
        "repeated_enrollments",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("domain_id", sa.String(22), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("similarity", sa.Float(), nullable=False),
        sa.Column("speech_s", sa.Float(), nullable=False),
        sa.Column("snr_db", sa.Float(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"],
            ["domains.domain_id"],
            name=op.f("fk_repeated_enrollments_domain_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_repeated_enrollments")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_repeated_enrollments_domain_id_model_id"), "repeated_enrollments", ["domain_id", "model_id"]
    )


def downgrade() -> None:
    op.drop_table("repeated_enrollments")
    op.drop_table("calibrations")
    op.drop_column("voiceprints", "snr_db")
