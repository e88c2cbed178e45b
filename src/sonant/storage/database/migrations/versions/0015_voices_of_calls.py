"""Sessions: when several people were heard in the stream; voice samples of parts of its speech"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("multiple_speakers_at", sa.BigInteger(), nullable=True))
    op.add_column("session_hearings", sa.Column("parts_sealed", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("session_hearings", "parts_sealed")
    op.drop_column("sessions", "multiple_speakers_at")
