"""Assembly: the only place that builds parts from Settings and hands them to each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from starlette.applications import Starlette

from sonant.errors import AccessDenied, SetupError, Validation
from sonant.jobs.engines.local import LocalEngine
from sonant.jobs.engines.worker import work
from sonant.jobs.entry import Role, Task
from sonant.jobs.faults import Refusal
from sonant.jobs.manifest import AudioFile, Rules
from sonant.jobs.runner import Parts, Runner
from sonant.operations import OPERATIONS
from sonant.operations.service import RecordingAnalysis, Service
from sonant.policy import ALLOW_ALL, parse
from sonant.settings import Settings
from sonant.store import access
from sonant.store.database.engine import Database
from sonant.store.grants import GrantedObjects
from sonant.store.key_file import KEY_BYTES
from sonant.store.local_keys import LocalKeyStore
from sonant.store.local_objects import LocalObjectStore
from sonant.store.objects import ObjectUri
from sonant.store.private_folder import PrivateFolder
from sonant.store.times import now as real_now
from sonant.store.vault import ServiceSecret
from sonant.voice.models import load_models as load_voice_models
from sonant.wire.models import SIGNING_NAME, Shape, load_models
from sonant.wire.scalars import Fault, string
from sonant.wire.server import FrontDoor, asgi_app
from sonant.wire.signature import Credential, Verifier

DEFAULT_ALIAS = "alias/sonant"
_SECRET_FILE = "service.key"  # noqa: S105 - a file name


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Everything that lasts."""

    settings: Settings
    database: Database
    keys: LocalKeyStore
    objects: LocalObjectStore
    secret: ServiceSecret
    clock: Callable[[], datetime]


def user_arn(settings: Settings) -> str:
    return f"arn:aws:iam::{settings.account}:user/sonant"


def role_arn(settings: Settings) -> str:
    """The role that a fresh installation has, with rights on all local buckets and keys."""
    return f"arn:aws:iam::{settings.account}:role/sonant"


def credentials_file(settings: Settings) -> Path:
    return settings.data / "credentials"


# --- the store ----------------------------------------------------------------------------------------


def open_store(
    settings: Settings, *, create: bool = False, clock: Callable[[], datetime] = real_now
) -> Store:
    """Open the data folder. With `create`, make it and bring the schema up to date.

    Raises SetupError when there is none and it may not be made, or it cannot be used.
    """
    data = settings.data
    if not create and not (data / "keys" / _SECRET_FILE).exists():
        raise SetupError(
            f"{data} is not a Sonant data folder; start `sonant serve --data {data}` once, "
            "or name another with --data or SONANT_DATA"
        )
    _made(data)
    folder = PrivateFolder(data / "keys")
    keys = LocalKeyStore(folder.path, region=settings.region, account=settings.account, clock=clock)
    database = Database(settings.database_url, connections=settings.wire.threads + 2)
    if create:
        database.migrate()
    return Store(
        settings=settings,
        database=database,
        keys=keys,
        objects=LocalObjectStore(data / "buckets", keys),
        secret=ServiceSecret(_service_key(folder)),
        clock=clock,
    )


def _made(data: Path) -> bool:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise SetupError(f"data folder {data} cannot be made: {fault.strerror}") from None
    return True


def _service_key(folder: PrivateFolder) -> bytes:
    """The service's own key; made on first use."""
    with folder.locked():
        if folder.stamp(_SECRET_FILE) is None:
            folder.replace(_SECRET_FILE, secrets.token_bytes(KEY_BYTES))
        found = folder.read(_SECRET_FILE, KEY_BYTES)
    key = b"" if found is None else found[1]
    if len(key) != KEY_BYTES:
        raise SetupError(f"{folder.path / _SECRET_FILE} is damaged: restore it from a backup")
    return key


def first_start(store: Store) -> str | None:
    """Make what a fresh installation has: key, user, role, access key, credentials file.

    Returns the first access key's id the one time it is made.
    """
    settings, now = store.settings, store.clock()
    if not any(DEFAULT_ALIAS in key.aliases for key in store.keys.list()):
        store.keys.create("made at first start", alias=DEFAULT_ALIAS)
    with store.database.write() as connection:
        if access.list_principals(connection):
            return None
        for arn in (user_arn(settings), role_arn(settings)):
            access.put_principal(connection, arn, settings.account, [ALLOW_ALL], now)
        key_id, secret = access.create_access_key(connection, store.secret, user_arn(settings), now)
        # Written before the commit: a key that no file holds would be lost for good.
        write_private(
            credentials_file(settings),
            f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
            f"region = {settings.region}\n",
        )
    return key_id


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, as a whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def only_one(settings: Settings, name: str) -> Iterator[None]:
    """Hold the data folder's lock `name`. Raises SetupError when another process holds it."""
    _made(settings.data)
    path = settings.data / f"{name}.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise SetupError(
                f"another Sonant {name} (process {holder}) uses the data folder {settings.data}; "
                "stop it or choose another folder with --data"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


# --- the voice side -----------------------------------------------------------------------------------


def fetch_with(settings: Settings) -> Callable[[Role, str], bytes]:
    """A function that reads one recording under a role; made in each worker process."""
    keys = LocalKeyStore(
        settings.data / "keys", region=settings.region, account=settings.account, clock=real_now
    )
    granted: dict[Role, GrantedObjects] = {}

    def fetch(role: Role, uri: str) -> bytes:
        objects = granted.get(role)
        if objects is None:
            granted.clear()  # one job at a time: its role is all that is worth keeping
            objects = granted[role] = _granted(settings, keys, role)
        return objects.read(ObjectUri.parse(uri), settings.audio.max_file_bytes)

    return fetch


def _granted(settings: Settings, keys: LocalKeyStore, role: Role) -> GrantedObjects:
    policies = [parse(text) for text in role.policies]
    return GrantedObjects(partial(LocalObjectStore, settings.data / "buckets"), keys, role.arn, policies)


def worker_main(pipe: object, settings: Settings) -> None:
    """What a worker process runs."""
    work(pipe, fetch_with(settings), load_voice_models, (), settings.audio)  # type: ignore[arg-type]


def local_engine(settings: Settings, workers: int) -> LocalEngine:
    return LocalEngine(
        worker_main, (settings,), workers=workers, time_limit_s=settings.jobs.entry_time_limit_s
    )


class LocalListener:
    """Hears one recording at a time in a worker process that is started when first needed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._engine = local_engine(store.settings, workers=1)
        self._turn = threading.Lock()

    def analyse(self, role_arn: str, s3_uri: str, channel: int, need_s: float) -> RecordingAnalysis:
        with self._store.database.read() as connection:
            policies = access.policy_texts(connection, role_arn)
        if policies is None:
            raise AccessDenied(f"The role {role_arn} cannot be assumed: it does not exist")
        role = Role(arn=role_arn, policies=policies)
        audio = (AudioFile(s3_uri=s3_uri, channel=channel),)
        with self._turn:
            self._engine.submit(Task(ticket=0, role=role, audio=audio, need_s=need_s, keep_audio=False))
            while not (results := self._engine.results(timeout_s=1.0)):
                pass
        heard = results[0][1]
        if isinstance(heard, Refusal):
            raise (AccessDenied if heard.code == 403 else Validation)(heard.message)
        return RecordingAnalysis(
            model_id=heard.model_id,
            vector=heard.vector,
            net_speech_s=heard.net_speech_s,
            snr_db=heard.snr_db,
        )

    def close(self) -> None:
        with self._turn:
            self._engine.close()


def build_runner(store: Store, owner: str) -> Runner:
    settings = store.settings
    parts = Parts(
        settings=settings,
        database=store.database,
        keys=store.keys,
        objects_of=lambda role: _granted(settings, store.keys, role),
        rules=manifest_rules(settings),
        clock=store.clock,
    )
    return Runner(parts, local_engine(settings, settings.workers), owner)


def manifest_rules(settings: Settings) -> Rules:
    """The manifest's limits; its field rules are those of the service model's shapes."""
    models = load_models()
    start = models.find("VoiceID.StartSpeakerEnrollmentJob")
    described: Shape = models.find("VoiceID.DescribeSpeaker").output_shape
    return Rules(
        max_bytes=settings.jobs.max_manifest_bytes,
        max_depth=settings.jobs.max_manifest_depth,
        max_requests=settings.quotas.speakers_per_enrollment_job,
        max_files=settings.quotas.files_per_request,
        check_speaker_id=_check(described.members["Speaker"].members["CustomerSpeakerId"]),
        check_s3_uri=_check(start.input_shape.members["InputDataConfig"].members["S3Uri"]),
    )


def _check(shape: Shape) -> Callable[[str], str]:
    check = string(shape)

    def wrong(value: str) -> str:
        faults: list[Fault] = []
        check(value, faults)
        return faults[0].constraint.removeprefix("Member ") if faults else ""

    return wrong


# --- the wire side ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The ASGI app and what must be closed after it."""

    asgi: Starlette
    close: Callable[[], None]


def build_app(store: Store) -> App:
    settings = store.settings
    listener = LocalListener(store)
    service = Service(
        settings=settings,
        database=store.database,
        keys=store.keys,
        secret=store.secret,
        listener=listener,
        clock=store.clock,
    )

    def find(access_key_id: str) -> Credential | None:
        with store.database.read() as connection:
            found = access.find_secret(connection, store.secret, access_key_id)
        if found is None:
            return None
        principal, secret = found
        return Credential(access_key_id=access_key_id, secret=secret, principal=principal)

    verifier = Verifier(
        region=settings.region, service=SIGNING_NAME, skew_s=settings.wire.signature_skew_s, find=find
    )
    door = FrontDoor(load_models(), OPERATIONS, service, verifier, settings.wire)

    def close() -> None:
        door.close()
        listener.close()
        store.database.close()

    return App(asgi=asgi_app(door), close=close)
