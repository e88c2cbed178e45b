"""What later looks at the voice of a call have found"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("speaker_changed_at", sa.BigInteger()))
    op.add_column("sessions", sa.Column("later_risk_at", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("sessions", "later_risk_at")
    op.drop_column("sessions", "speaker_changed_at")
