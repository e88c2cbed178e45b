"""How the runner beside a service is: for readiness, metrics and `sonant doctor`."""

from __future__ import annotations

from dataclasses import dataclass

#: A runner that is away no longer than this is no reason to send calls elsewhere: it is being started again.
GRACE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerState:
    """One moment."""

    pid: int | None
    """Of its process; None while there is none."""
    restarts: int
    """How often it was tried to start another, since the service started."""
    down_s: float | None
    """For how long no runner has worked; None while one does."""
    problem: str
    """Why, as far as is known; empty while one works, and while the first is starting."""

    @property
    def missing(self) -> bool:
        """Whether jobs that are accepted now would not be run."""
        return self.down_s is not None and self.down_s > GRACE_S
