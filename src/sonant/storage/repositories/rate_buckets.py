"""Rates that several processes keep to together: a token bucket for each account, Region and operation.

On PostgreSQL only, where several processes answer calls; its clock is the one that counts.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

_TAKE = text(
    """
    INSERT INTO rate_buckets AS bucket (account_id, region, operation, calls, filled_at_s)
    VALUES (:account_id, :region, :operation, CAST(:size AS double precision) - 1,
            extract(epoch FROM clock_timestamp()))
    ON CONFLICT (account_id, region, operation) DO UPDATE SET
        calls = least(:size, bucket.calls
            + greatest(0, excluded.filled_at_s - bucket.filled_at_s) * CAST(:rate AS double precision)) - 1,
        filled_at_s = greatest(bucket.filled_at_s, excluded.filled_at_s)
    WHERE least(:size, bucket.calls
        + greatest(0, excluded.filled_at_s - bucket.filled_at_s) * CAST(:rate AS double precision)) >= 1
    """
)


def take(
    connection: Connection, account_id: str, region: str, operation: str, *, rate: float, size: float
) -> bool:
    """Spend one call of a bucket that holds `size` and fills by `rate` a second; whether there was one."""
    wanted = {
        "account_id": account_id,
        "region": region,
        "operation": operation,
        "rate": rate,
        "size": size,
    }
    return connection.execute(_TAKE, wanted).rowcount == 1
