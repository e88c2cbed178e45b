"""Template spaces: the keys of domains' transforms, and the space of each stored embedding"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

_EMBEDDINGS = (
    "voiceprints",
    "fraudster_voiceprints",
    "shadow_voiceprints",
    "fraudster_shadow_voiceprints",
    "session_hearings",
)
_SHADOWS = ("shadow_voiceprints", "fraudster_shadow_voiceprints")


def upgrade() -> None:
    op.create_table(
        "template_keys",
        sa.Column("domain_id", sa.String(22), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_template_keys_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("domain_id", "version", name=op.f("pk_template_keys")),
    )
    for name in ("template_version", "oldest_template_version"):
        op.add_column("domains", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    for table in _EMBEDDINGS:
        op.add_column(table, sa.Column("template_version", sa.Integer(), nullable=False, server_default="0"))
    for table in _SHADOWS:
        op.add_column(table, sa.Column("other_template_version", sa.Integer(), nullable=True))


def downgrade() -> None:
    for table in _SHADOWS:
        op.drop_column(table, "other_template_version")
    for table in _EMBEDDINGS:
        op.drop_column(table, "template_version")
    for name in ("oldest_template_version", "template_version"):
        op.drop_column("domains", name)
    op.drop_table("template_keys")
