"""The life of a job: every event in every status."""

import pytest

from sonant.jobs.states import Event, Status, advance

STEPS = {
    (Status.SUBMITTED, Event.BEGIN): Status.IN_PROGRESS,
    (Status.SUBMITTED, Event.FAIL): Status.FAILED,
    (Status.IN_PROGRESS, Event.BEGIN): Status.IN_PROGRESS,
    (Status.IN_PROGRESS, Event.SUCCEED): Status.COMPLETED,
    (Status.IN_PROGRESS, Event.SUCCEED_PARTLY): Status.COMPLETED_WITH_ERRORS,
    (Status.IN_PROGRESS, Event.FAIL): Status.FAILED,
}
ORDER = [Status.SUBMITTED, Status.IN_PROGRESS]


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("status", Status)
def test_a_job_takes_exactly_the_steps_of_the_diagram(status, event):
    if (status, event) in STEPS:
        assert advance(status, event) is STEPS[status, event]
    else:
        with pytest.raises(ValueError, match=f"{status} does not allow the event: {event}"):
            advance(status, event)


def test_no_step_leads_back():
    for (before, _), after in STEPS.items():
        assert after.final or ORDER.index(after) >= ORDER.index(before)


def test_a_final_status_meets_no_event():
    final = {status for status in Status if status.final}
    assert final == {Status.COMPLETED, Status.COMPLETED_WITH_ERRORS, Status.FAILED}
    assert not final & {status for status, _ in STEPS}


def test_statuses_are_spelled_as_on_the_wire():
    assert [str(status) for status in Status] == [
        "SUBMITTED",
        "IN_PROGRESS",
        "COMPLETED",
        "COMPLETED_WITH_ERRORS",
        "FAILED",
    ]
