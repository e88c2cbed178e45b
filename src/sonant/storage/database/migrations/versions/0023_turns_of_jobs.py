"""When a runner last took a job: domains take turns"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("turn_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "turn_at")
