"""Whose share of threads and queues a request takes: its account's, and until that is known its address's.

A signature is verified in the threads that the request waits for. Until then the access key that a request
claims says only this: if somebody has signed with it before, the request waits with others of that account
and address, so that a flood of unsigned requests from the same address (of a proxy, say) is not in its way.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonant.gateway.request_context import RequestContext

#: Access keys that are remembered; beyond it all are forgotten and learned again.
MOST_KEYS = 10_000
_CREDENTIAL = b"Credential="


@dataclass(frozen=True, slots=True)
class AccountTurn:
    """The share of an account."""

    account_id: str


class VerifiedCallers:
    """Remembers the accounts of access keys that requests were signed with. For any number of threads."""

    def __init__(self) -> None:
        self._turns: dict[str, AccountTurn] = {}

    def presumed(self, request: RequestContext) -> Hashable:
        """Say whose share a request takes before its signature is verified."""
        header = request.header(b"authorization")
        if header is None:
            return request.source_ip
        _, _, scope = header.partition(_CREDENTIAL)
        known = self._turns.get(scope.partition(b"/")[0].decode("latin-1"))
        return request.source_ip if known is None else (request.source_ip, known.account_id)

    def turn(self, access_key_id: str, account_id: str) -> AccountTurn:
        """Return the share of the account that a request was signed for, and remember its key."""
        known = self._turns.get(access_key_id)
        if known is None or known.account_id != account_id:
            if len(self._turns) >= MOST_KEYS:
                self._turns.clear()
            known = self._turns[access_key_id] = AccountTurn(account_id)
        return known
