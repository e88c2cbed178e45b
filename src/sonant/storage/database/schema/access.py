"""Tables of callers: principals, access keys, consents, client tokens and request rates."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, LargeBinary, String, Table, Text

from sonant.storage.database.schema.base import metadata

principals = Table(
    "principals",
    metadata,
    Column("arn", String(2048), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("policies", Text, nullable=False),  # JSON list of policy documents
    Column("tags", Text, nullable=False, server_default="{}"),  # JSON object, for aws:PrincipalTag
    Column("created_at", BigInteger, nullable=False),
)

access_keys = Table(
    "access_keys",
    metadata,
    Column("access_key_id", String(128), primary_key=True),
    Column("principal_arn", ForeignKey("principals.arn", ondelete="CASCADE"), nullable=False),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("token_sealed", LargeBinary),  # session token of temporary credentials
    Column("active", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
)

#: Check values that only the right keys open. A service whose keys do not open them does not start.
key_checks = Table(
    "key_checks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

#: The last lines of the chains of the audit trail, as far as they were counted.
audit_chains = Table(
    "audit_chains",
    metadata,
    Column("chain_id", String(36), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("host", String(255), nullable=False),  # whose data folder holds the chain
    Column("sequence", BigInteger, nullable=False),  # number of the last line
    Column("head", String(64), nullable=False),  # hash of the last line
    Column("mac", LargeBinary, nullable=False),  # of the other columns, under a key of the service
    Column("recorded_at", BigInteger, nullable=False),
)

client_tokens = Table(
    "client_tokens",
    metadata,
    # Keyed hash of account, Region, operation, domain, token; or of the id of a login that was ended.
    Column("scope", String(64), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("resource_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
)

#: Accounts that have accepted the biometric privacy notice.
consents = Table(
    "consents",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("principal_arn", String(2048), nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
)

#: Token buckets of request rates, for processes that share PostgreSQL (see `repositories.callers`).
rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("region", String(64), primary_key=True),
    Column("operation", String(64), primary_key=True),
    Column("calls", Float, nullable=False),
    Column("filled_at_s", Float, nullable=False),
)
