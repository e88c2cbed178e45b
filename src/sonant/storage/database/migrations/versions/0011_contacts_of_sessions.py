"""Sessions: the contact's ARN, and when there was speech enough for an enrollment"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("enrollment_speech_at", sa.BigInteger(), nullable=True))
    op.add_column("sessions", sa.Column("contact_arn", sa.String(256), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "contact_arn")
    op.drop_column("sessions", "enrollment_speech_at")
