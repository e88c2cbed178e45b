"""Tags of principals, and credentials that end by themselves"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("principals", sa.Column("tags", sa.Text(), server_default="{}", nullable=False))
    op.add_column("access_keys", sa.Column("token_sealed", sa.LargeBinary(), nullable=True))
    op.add_column("access_keys", sa.Column("expires_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("access_keys", "expires_at")
    op.drop_column("access_keys", "token_sealed")
    op.drop_column("principals", "tags")
