"""Voices against a watchlist, for those who foretell what an enrollment would find."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from sonant.jobs.fraud import Risk, known_fraudster
from sonant.jobs.inspect import Inspected
from sonant.jobs.kind import Heard
from sonant.jobs.scale import scale_of
from sonant.jobs.watch import Sample, Watch
from sonant.store.domains import Domain
from sonant.store.vault import Vault


class Screening:
    """One domain's list, the default one unless another is named."""

    def __init__(self, watchlist_id: str | None) -> None:
        self._watchlist_id = watchlist_id
        self._watch: Watch | None = None

    def risks(
        self, connection: Connection, domain: Domain, vault: Vault, heard: Mapping[str, Heard]
    ) -> dict[str, Risk]:
        """The known-fraudster risk of each voice that would be enrolled, under the same names."""
        voices = {name: one for name, one in heard.items() if isinstance(one, Inspected) and one.vector}
        if not voices:
            return {}
        if self._watch is None:
            self._watch = Watch(domain.domain_id, self._watchlist_id or domain.default_watchlist_id)
        self._watch.follow(connection, vault, domain.fraudsters_version)
        samples = [Sample(model_id=one.model_id, vector=one.vector) for one in voices.values()]
        scales = {
            model_id: scale_of(connection, domain.domain_id, model_id)
            for model_id in {one.model_id for one in voices.values()}
        }
        return {
            name: known_fraudster(
                match,
                self._watch.size(one.model_id),
                scales[one.model_id].tail(one.net_speech_s, one.snr_db),
            )
            for (name, one), match in zip(voices.items(), self._watch.nearest(samples), strict=True)
        }
