"""Describe the runner of a service, for readiness, metrics and `sonant doctor`."""

from __future__ import annotations

from dataclasses import dataclass

#: Longest outage of the runner that leaves the service ready: it is being restarted.
GRACE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerState:
    """State of the runner at one moment. The file `runner.json` of the data folder holds these fields."""

    pid: int | None
    """Process id; None while there is no process."""
    restarts: int
    """Attempts to start another runner since the service started."""
    down_s: float | None
    """Seconds since a runner last worked; None while one works."""
    problem: str
    """Reason, as far as it is known; empty while one works and while the first is starting."""

    @property
    def missing(self) -> bool:
        """Whether jobs that are accepted now would not be run."""
        return self.down_s is not None and self.down_s > GRACE_S
