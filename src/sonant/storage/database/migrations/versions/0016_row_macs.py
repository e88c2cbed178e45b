"""MACs of the rows whose columns decide; `storage.row_binding` makes those of existing rows"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_TABLES = (
    "principals",
    "access_keys",
    "client_tokens",
    "consents",
    "domains",
    "watchlists",
    "fraudsters",
    "fraudster_voiceprints",
    "watchlist_members",
    "speakers",
    "speaker_keys",
    "voiceprints",
    "calibrations",
    "repeated_enrollments",
    "model_upgrades",
    "shadow_voiceprints",
    "fraudster_shadow_voiceprints",
    "jobs",
    "sessions",
    "session_hearings",
    "session_results",
)


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("row_mac", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "row_mac")
