"""The parts of the Ray engine that need no Ray: cipher, the actor's class, settings, imports."""

from __future__ import annotations

import subprocess
import sys
import threading

import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE_S

from sonant import __version__
from sonant.assembly import workers
from sonant.errors import SealBroken, SetupError
from sonant.jobs.entry import Role, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.workers import check_engine
from sonant.jobs.workers.engines.ray import RayEngine
from sonant.jobs.workers.ray_actor import RayWorker
from sonant.jobs.workers.ray_pool import Cluster
from sonant.jobs.workers.sealed_messages import PIECE_BYTES, MessageCipher, cut, new_key
from sonant.settings import S3, Settings
from sonant.settings.loading import load

ROLE = Role(arn="arn:aws:iam::000000000000:role/sonant", policies=())


def task(task_id):
    return Task(task_id=task_id, role=ROLE, audio=(), need_s=1.0, keep_audio=False)


class Noted:
    """Notes what it does. Fetching an even ticket takes until an odd one is fetched."""

    notes: list[str] = []  # noqa: RUF012 - of one test at a time
    fetched_odd = threading.Event()

    def fetch_first(self, task):
        if task.task_id % 2 == 0:
            assert self.fetched_odd.wait(PATIENCE_S)
        self.notes.append(f"fetched {task.task_id}")
        if task.task_id % 2:
            self.fetched_odd.set()
        return b""

    def execute(self, task, first):
        self.notes.append(f"did {task.task_id}")
        return Refusal(400, str(task.task_id))


def refusing():
    raise SetupError("this host is not set up")


class TestParcels:
    @given(st.binary(max_size=200), st.integers(min_value=0), st.integers(min_value=1, max_value=255))
    def test_a_parcel_opens_under_its_key_and_not_when_it_was_altered(self, value, place, change):
        cipher = MessageCipher(new_key())
        sealed = cipher.seal(value)
        assert cipher.open(sealed) == value
        altered = bytearray(sealed)
        altered[place % len(altered)] ^= change
        with pytest.raises(SealBroken):
            cipher.open(bytes(altered))

    def test_nothing_is_unpickled_that_another_key_sealed(self):
        with pytest.raises(SealBroken):
            MessageCipher(new_key()).open(MessageCipher(new_key()).seal(task(1)))
        with pytest.raises(SealBroken):
            MessageCipher(new_key()).open(b"short")

    @given(st.integers(min_value=28, max_value=4 * PIECE_BYTES), st.sampled_from([None, 2, 3, 6]))
    def test_pieces_make_up_the_parcel(self, size, count):
        parcel = bytes(size)
        pieces = cut(parcel, count)
        assert b"".join(pieces) == parcel
        assert all(len(piece) <= PIECE_BYTES for piece in pieces[:-1])
        if count is None:
            assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
        else:
            assert len(pieces) == count

    def test_a_parcel_shows_nothing_of_what_is_in_it(self):
        assert b"role/sonant" not in MessageCipher(new_key()).seal(task(1))


class TestTheActor:
    def test_it_does_tasks_in_their_order_and_fetches_one_ahead(self):
        cipher = MessageCipher(key := new_key())
        actor = RayWorker(key)
        assert actor.start(__version__, cipher.seal((Noted, ()))) == ""
        Noted.notes.clear()
        Noted.fetched_odd.clear()
        answers = {}

        def hear(number):
            answer = actor.execute(number, 1, (1,), cipher.seal(task(number)))
            assert isinstance(answer, bytes)
            (answers[number],) = cipher.open(answer[8:])

        calls = [threading.Thread(target=hear, args=(number,)) for number in (1, 0)]
        for call in calls:
            call.start()
        for call in calls:
            call.join(PATIENCE_S)
        assert answers == {0: Refusal(400, "0"), 1: Refusal(400, "1")}
        assert Noted.notes == ["fetched 1", "fetched 0", "did 0", "did 1"]

    def test_it_does_several_tasks_of_one_call_and_fetches_one_ahead(self):
        cipher = MessageCipher(key := new_key())
        actor = RayWorker(key)
        assert actor.start(__version__, cipher.seal((Noted, ()))) == ""
        Noted.notes.clear()
        Noted.fetched_odd.set()
        sealed = [cut(cipher.seal(task(number)), pieces) for number, pieces in ((3, 1), (4, 2), (5, 1))]
        answer = actor.execute(0, 2, (1, 2, 1), *[piece for pieces in sealed for piece in pieces])
        assert isinstance(answer, tuple)
        assert cipher.open(b"".join(answer)[8:]) == [Refusal(400, str(number)) for number in (3, 4, 5)]
        assert [note for note in Noted.notes if note.startswith("did")] == ["did 3", "did 4", "did 5"]
        assert [note for note in Noted.notes if note.startswith("fetched")] == [
            "fetched 3",
            "fetched 4",
            "fetched 5",
        ]

    def test_it_does_not_begin_with_another_release(self):
        actor = RayWorker(key := new_key())
        complaint = actor.start("0.0.0", MessageCipher(key).seal((Noted, ())))
        assert complaint.endswith(f"has Sonant {__version__}, the runner 0.0.0")

    def test_it_says_why_its_host_cannot_do_tasks(self):
        actor = RayWorker(key := new_key())
        assert actor.start(__version__, MessageCipher(key).seal((refusing, ()))).endswith(
            "this host is not set up"
        )


class TestWhatAHostMustAgreeOn:
    def test_an_actor_takes_no_secret_from_the_runner(self):
        settings = Settings(
            database="postgresql://sonant:secret@db/sonant",
            objects="s3",
            s3=S3(endpoint="https://s3.example", access_key_id="key", secret_access_key="secret"),
        )
        told = workers.storage_location(settings)
        assert told["s3.endpoint"] == "https://s3.example"
        assert "secret" not in str(told)

    def test_a_host_that_looks_elsewhere_learns_where_it_differs(self, monkeypatch, tmp_path):
        for name, value in {
            "OBJECTS": "s3",
            "S3_ENDPOINT": "https://other.example",
            "DATA": str(tmp_path),
        }.items():
            monkeypatch.setenv(f"SONANT_{name}", value)
        runner = Settings(data=tmp_path, objects="s3", s3=S3(endpoint="https://s3.example"))
        with pytest.raises(SetupError, match=r"settings differ from the runner's: s3\.endpoint$"):
            workers.build_remote_executor(runner.audio, runner.fraud, workers.storage_location(runner), ())

    def test_host_without_an_added_voice_model_is_refused_with_its_name(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SONANT_DATA", str(tmp_path))
        runner = Settings(data=tmp_path)
        with pytest.raises(SetupError, match="voice models are missing: brought"):
            workers.build_remote_executor(
                runner.audio, runner.fraud, workers.storage_location(runner), ("brought",)
            )

    def test_host_without_a_gpu_for_onnxruntime_says_so(self, monkeypatch, tmp_path):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
        monkeypatch.setenv("SONANT_DATA", str(tmp_path))
        runner = Settings(data=tmp_path)
        with pytest.raises(SetupError, match="this onnxruntime has no CUDAExecutionProvider"):
            workers.build_remote_executor(
                runner.audio, runner.fraud, workers.storage_location(runner), (), True
            )
        assert workers.build_remote_executor(
            runner.audio, runner.fraud, workers.storage_location(runner), (), False
        )


class TestSettings:
    @pytest.mark.parametrize(
        "address", ["", "local", "ray://head:10001", "head", "http://head:8265", "h:1/x"]
    )
    def test_a_cluster_must_be_named_and_none_is_started(self, address):
        with pytest.raises(SetupError, match=r"ray\.address is .*must be host:port"):
            load(environment={"SONANT_ENGINE": "ray", "SONANT_RAY_ADDRESS": address})

    @pytest.mark.parametrize("address", ["auto", "head.example:6379", "10.0.0.1:6379", "[fd00::1]:6379"])
    def test_addresses_of_clusters(self, address):
        loaded = load(environment={"SONANT_ENGINE": "ray", "SONANT_RAY_ADDRESS": address})
        assert loaded.ray.address == address

    def test_without_ray_installed_the_engine_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(SetupError, match=r"pip install 'sonant\[ray\]'"):
            RayEngine(Noted, (), Cluster(address="auto"), time_limit_s=1.0)
        with pytest.raises(SetupError, match=r"pip install 'sonant\[ray\]'"):
            check_engine(Settings(engine="ray"))


def test_nothing_of_ray_is_loaded_with_the_app():
    code = "import sys, sonant.assembly.service; print([n for n in sys.modules if n.split('.')[0] == 'ray'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout.strip() == "[]", done.stderr
