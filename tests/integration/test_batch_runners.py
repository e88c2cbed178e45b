"""Runners: which job comes first, and what two of them on one database do to each other."""

from datetime import timedelta

import pytest
from batch_values import entry

from sonant.jobs import runner
from sonant.settings import Jobs
from sonant.storage.repositories import jobs
from sonant.storage.times import now, to_us

VOICES = ("english", "french", "italian", "russian")
LEASE = timedelta(seconds=Jobs().lease_s)
FOUR = [entry(f"r{n}", f"customer-{n}", f"s3://calls/{voice}.wav") for n, voice in enumerate(VOICES, 1)]


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@pytest.fixture
def later(testbed):
    """The shared testbed with a clock of its own, and a way to move it."""
    moment = now()

    def move(time):
        nonlocal moment
        moment += time

    other = testbed.variant(clock=lambda: moment)
    yield other, move
    other.close()


def test_without_a_job_there_is_nothing_to_do(testbed):
    assert testbed.runner().run_one() is False


def test_jobs_are_done_in_the_order_they_were_started(testbed):
    started = []
    for _ in range(3):
        domain_id = testbed.new_domain()
        started.append((domain_id, testbed.start(domain_id, [FOUR[0]])))
    for done in range(1, 4):
        testbed.run()
        statuses = [testbed.describe(*pair)["JobStatus"] for pair in started]
        assert statuses == ["COMPLETED"] * done + ["SUBMITTED"] * (3 - done)


def test_a_lease_of_a_runner_whose_clock_was_ahead_is_no_lease(testbed, domain):
    job_id = testbed.start(domain, [FOUR[0]])
    taken = (
        "UPDATE jobs SET status = 'IN_PROGRESS', lease_owner = 'dead', lease_until = :until WHERE job_id = :j"
    )
    testbed.execute(taken, until=to_us(now() + timedelta(minutes=30)), j=job_id)
    assert not testbed.runner().run_one(), "clocks of hosts may differ"
    testbed.execute(taken, until=to_us(now() + timedelta(hours=25)), j=job_id)
    testbed.run()
    assert testbed.outcome(domain, job_id).status == "COMPLETED"


def test_a_second_runner_leaves_a_job_in_work_alone(testbed, domain):
    job_id = testbed.start(domain, FOUR)
    others = []
    testbed.run(during={1: lambda: others.append(testbed.runner(owner="second").run_one())})
    assert others == [False]
    assert testbed.outcome(domain, job_id).status == "COMPLETED"


@pytest.mark.slow
def test_a_runner_that_slept_through_its_lease_writes_nothing_more(later, monkeypatch):
    """A laptop lid was closed: another runner has taken the job and ended it when the first one wakes up."""
    monkeypatch.setattr(runner, "RENEWALS", 1e-9)  # only what it writes can tell it so
    testbed, move = later
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, FOUR)
    ended = []

    def sleep():
        move(LEASE + timedelta(seconds=1))
        with_own_engine = testbed.variant(clock=testbed.store.clock)
        try:
            assert with_own_engine.runner(owner="second").run_one()
        finally:
            with_own_engine.close()
        ended.append((testbed.outcome(domain_id, job_id), testbed.voiceprints(domain_id)))

    assert testbed.runner(during={3: sleep}, owner="first").run_one()
    ((outcome, voiceprints),) = ended
    assert set(outcome.successes.values()) == {"NEW_ENROLLMENT"}
    again = testbed.outcome(domain_id, job_id)
    assert again == outcome
    after = testbed.voiceprints(domain_id)
    assert {name: vector.tobytes() for name, vector in after.items()} == {
        name: vector.tobytes() for name, vector in voiceprints.items()
    }


def test_a_runner_that_lost_its_job_does_not_fail_it(later):
    """The job is another's and still in work when the first one meets a fault."""
    testbed, move = later
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, FOUR)

    def lose_it_and_stumble():
        testbed.execute("UPDATE jobs SET lease_owner = 'second' WHERE job_id = :j", j=job_id)
        raise OSError("the first runner's own fault")

    assert testbed.runner(during={2: lose_it_and_stumble}, owner="first").run_one()
    status, done, _ = testbed.progress(job_id)
    assert (status, done) == ("IN_PROGRESS", 1)
    move(LEASE + timedelta(seconds=1))
    assert testbed.runner(owner="third").run_one()
    assert len(testbed.outcome(domain_id, job_id).successes) == 4


def test_a_runner_that_lost_its_job_before_the_import_deletes_nothing(later):
    """It was suspended for longer than its lease, and another runner works on the job meanwhile."""
    testbed, move = later
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, FOUR)

    class Suspended:
        def __init__(self, objects):
            self._objects = objects

        def __getattr__(self, name):
            return getattr(self._objects, name)

        def check_writable(self, *arguments):
            self._objects.check_writable(*arguments)
            move(LEASE + timedelta(seconds=1))
            second: runner.Runner = testbed.runner(during={3: lambda: second.stop()}, owner="second")
            assert second.run_one()

    first = testbed.runner(owner="first", objects_of=lambda role: Suspended(testbed.objects_of(role)))
    assert first.run_one()
    assert testbed.progress(job_id)[:2] == ("IN_PROGRESS", 2)
    assert testbed.runner(owner="third").run_one()
    assert len(testbed.outcome(domain_id, job_id).successes) == 4


def test_a_lease_is_kept_while_nothing_is_committed(later, monkeypatch):
    """One long recording, for longer than a lease."""
    monkeypatch.setattr(runner, "RENEWALS", float("inf"))
    testbed, move = later
    domain_id = testbed.new_domain()
    job_id = testbed.start(domain_id, FOUR[:1])
    engine = testbed.watched()
    first = testbed.runner(owner="first", engine=engine)
    others: list[bool] = []
    results = engine.results

    def nothing_yet(timeout_s):
        if len(others) == 3:
            return results(timeout_s)
        move(LEASE * 0.7)
        others.append(testbed.runner(owner="second").run_one())
        return []

    monkeypatch.setattr(engine, "results", nothing_yet)
    assert first.run_one()
    assert others == [False] * 3
    assert testbed.outcome(domain_id, job_id).status == "COMPLETED"


def test_a_runner_that_is_told_to_stop_gives_the_job_back_at_once(testbed, domain):
    job_id = testbed.start(domain, FOUR)
    stopped: runner.Runner = testbed.runner(during={3: lambda: stopped.stop()})
    assert stopped.run_one()
    status, done, _ = testbed.progress(job_id)
    assert (status, done) == ("IN_PROGRESS", 2)
    before = {name: vector.tobytes() for name, vector in testbed.voiceprints(domain).items()}
    assert set(before) == {"customer-1", "customer-2"}
    assert testbed.runner(owner="second").run_one(), "no lease is in the way"
    outcome = testbed.outcome(domain, job_id)
    assert set(outcome.successes.values()) == {"NEW_ENROLLMENT"}
    after = {name: vector.tobytes() for name, vector in testbed.voiceprints(domain).items()}
    assert len(after) == 4
    assert before.items() <= after.items()


def test_a_runner_that_is_alone_takes_over_at_once_what_a_dead_one_left(testbed, domain, monkeypatch):
    job_id = testbed.start(domain, FOUR)

    def die():
        raise Killed

    with pytest.raises(Killed):
        testbed.runner(during={3: die}, owner="dead").run_one()
    testbed.engine.discard()
    assert testbed.progress(job_id)[:2] == ("IN_PROGRESS", 2)
    assert testbed.runner(owner="second").run_one() is False, "the dead one's lease still holds"
    engine = testbed.watched({2: lambda: alone.stop()})
    monkeypatch.setattr(engine, "close", lambda: None)  # the shared worker processes stay
    alone: runner.Runner = testbed.runner(engine=engine, owner="second")
    alone.run(alone=True)
    assert testbed.runner(owner="third").run_one()
    outcome = testbed.outcome(domain, job_id)
    assert list(outcome.successes) == ["r1", "r2", "r3", "r4"]
    assert len(testbed.voiceprints(domain)) == 4


def test_job_killed_after_writing_its_result_writes_the_same_result_again(testbed, domain):
    """Killed between the result file and the final status."""
    job_id = testbed.start(domain, FOUR)

    class Dying:
        def __init__(self, objects):
            self._objects = objects

        def __getattr__(self, name):
            return getattr(self._objects, name)

        def write(self, *arguments):
            self._objects.write(*arguments)
            raise Killed

    dying = testbed.runner(owner="dead", objects_of=lambda role: Dying(testbed.objects_of(role)))
    with pytest.raises(Killed):
        dying.run_one()
    (path,) = testbed.files_with(job_id)
    first = path.read_bytes()
    with testbed.store.database.write() as connection:
        jobs.release_all(connection)
    assert testbed.runner(owner="second").run_one()
    assert testbed.outcome(domain, job_id).status == "COMPLETED"
    assert path.read_bytes() == first


def test_import_that_was_cut_short_is_begun_again(testbed, domain):
    """A runner that is stopped between two batches of the manifest leaves requests that do not count yet."""
    count = 2 * jobs.BATCH + 7
    job_id = testbed.start(domain, [entry(f"r{n}", "two words", "s3://calls/a.wav") for n in range(count)])
    beats = iter(range(10))

    def heartbeat():
        if next(beats) == 2:
            stopped.stop()

    stopped = testbed.runner(heartbeat=heartbeat)
    assert stopped.run_one()
    with testbed.store.database.read() as connection:
        assert len(jobs.open_entries(connection, job_id, 0, 2 * count)) == 2 * jobs.BATCH
    assert testbed.progress(job_id) == ("IN_PROGRESS", 0, 0)
    assert testbed.describe(domain, job_id)["JobProgress"]["PercentComplete"] == 0
    testbed.run()
    assert list(testbed.outcome(domain, job_id).errors) == [f"r{n}" for n in range(count)]


def test_a_long_job_lets_a_job_of_another_domain_have_its_turn(testbed, domain):
    worked_s, other_domain = 0.0, testbed.new_domain()

    def a_turn_later():
        nonlocal worked_s
        worked_s += Jobs().turn_s + runner.TURN_CHECK_S

    long, short = testbed.start(domain, FOUR), testbed.start(other_domain, [FOUR[0]])
    only = testbed.runner(during={1: a_turn_later}, monotonic_s=lambda: worked_s)
    assert only.run_one()
    status, done, _ = testbed.progress(long)
    assert status == "IN_PROGRESS"
    assert 1 <= done < len(FOUR)
    assert only.run_one()
    assert testbed.outcome(other_domain, short).status == "COMPLETED"
    assert testbed.progress(long) == (status, done, 0)
    assert only.run_one()
    outcome = testbed.outcome(domain, long)
    assert list(outcome.successes) == [one["RequestId"] for one in FOUR]


def test_a_long_job_goes_on_while_no_other_domain_waits(testbed, domain):
    worked_s = 0.0

    def turns_later():
        nonlocal worked_s
        worked_s += 10 * Jobs().turn_s

    job_id = testbed.start(domain, FOUR)
    assert testbed.runner(during={1: turns_later}, monotonic_s=lambda: worked_s).run_one()
    assert testbed.outcome(domain, job_id).status == "COMPLETED"
