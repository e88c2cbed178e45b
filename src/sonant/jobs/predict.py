"""What a job would do with each request, in manifest order, without doing it."""

from __future__ import annotations

from sonant.jobs.decide import Config, EnrollmentStatus, after_listening, before_listening
from sonant.jobs.entry import TaskResult
from sonant.jobs.faults import Refusal
from sonant.jobs.inspect import InspectionResult

#: Outcomes after which the speaker has a new voiceprint.
ENROLLS = ("NEW_ENROLLMENT", "ENROLLMENT_OVERWRITE")


class Forecast:
    """Remembers whom the requests so far would have enrolled; a mark tells speakers apart."""

    def __init__(self, config: Config, quota: int) -> None:
        self._config, self._quota = config, quota
        self._enrolled: set[bytes] = set()
        self._added = 0

    def settle(
        self, dedup_key: bytes, status: str | None, heard: TaskResult | Refusal, *, speakers_present: int
    ) -> Refusal | EnrollmentStatus:
        """The outcome the job would give. `status` and `speakers_present` are those of the domain now."""
        before = "ENROLLED" if dedup_key in self._enrolled else status
        early = before_listening(before, self._config)
        if early is not None:
            return early
        refusal = heard.refusal if isinstance(heard, InspectionResult) else None
        return after_listening(
            before,
            self._config,
            refusal or heard,
            speakers_present=speakers_present + self._added,
            quota=self._quota,
        )

    def note(self, dedup_key: bytes, status: str | None, outcome: Refusal | EnrollmentStatus) -> None:
        """Let later requests know of an outcome."""
        if outcome in ENROLLS and dedup_key not in self._enrolled:
            self._enrolled.add(dedup_key)
            self._added += status is None
