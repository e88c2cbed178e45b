"""Every route, pool, queue and lock of the service, each with what limits it. A new one needs a line here.

What several callers share must not let one of them stop the others: so each place says how it is bounded, and
how it is shared. The time limits of routes are those of `gateway.http_connection`, whatever the route.
"""

from __future__ import annotations

import ast
import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from carrier_peers import FRAMES_PEERS, MESSAGES_PEERS, FramesPeer, MessagesPeer
from limited_server import LimitedServer, head_of, is_closed
from sqlite_template import put_tables
from starlette.routing import BaseRoute, Route, WebSocketRoute
from waiting import wait_until

import sonant
from sonant.assembly.installation import first_start, open_store
from sonant.assembly.service import App, build_app
from sonant.carriers.endpoints import STREAMED
from sonant.carriers.registry import CARRIERS
from sonant.gateway import http_connection
from sonant.gateway.connections import UNLIMITED, Loss
from sonant.settings import Metrics, Settings

SOURCE = Path(sonant.__file__).parent

#: Programs of their own, which serve nobody.
NOT_SERVED = ("cli/", "demo/", "evaluation/")

#: Classes whose objects something waits in or for.
WAITED_FOR = {
    "BatchingExecutor",
    "BoundedSemaphore",
    "Condition",
    "DaemonExecutor",
    "FairQueue",
    "FairSemaphore",
    "FairSlots",
    "LifoQueue",
    "ListenerThread",
    "Lock",
    "PriorityQueue",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RetryQueue",
    "Semaphore",
    "SimpleQueue",
    "SlotCounts",
    "ThreadPool",
    "ThreadPoolExecutor",
    "WorkerPool",
    "deque",
}

SHORT = "held for a few statements that neither wait nor compute"
#: Where such an object is made: (file, class): (how many, what limits the waiting, and how it is shared).
LIMITS: dict[tuple[str, str], tuple[int, str]] = {
    ("assembly/service.py", "ThreadPool"): (
        2,
        "pages: gateway.max_waiting, a share per account; metrics: 16",
    ),
    ("assembly/service.py", "WorkerPool"): (1, "three tasks of each stream; streams are limited per account"),
    ("assembly/integrity_reports.py", "Lock"): (1, SHORT),
    ("assembly/supervisor.py", "Lock"): (1, SHORT),
    ("assembly/workers.py", "FairSlots"): (1, "gateway.comparisons; the last is for an account without one"),
    ("assembly/workers.py", "Lock"): (1, SHORT),
    ("audit/polls.py", "Lock"): (1, SHORT),
    ("audit/trail.py", "Condition"): (1, "records wait for the disk: audit.max_waiting, and a time limit"),
    ("audit/trail.py", "Lock"): (2, SHORT),
    ("audit/trail.py", "deque"): (1, "audit.max_waiting"),
    ("carriers/endpoints.py", "ThreadPool"): (2, "streams: 256, uploads: 4; a share per address or account"),
    ("carriers/limits.py", "FairSlots"): (1, "MAX_RECORDINGS; the last is for an account without one"),
    ("carriers/limits.py", "Lock"): (2, SHORT),
    ("carriers/siprec/call.py", "Queue"): (1, "five seconds of packets of one call; more are dropped"),
    ("fairness.py", "Lock"): (1, SHORT),
    ("fairness.py", "SlotCounts"): (2, "the slots that are shared"),
    ("fairness.py", "deque"): (1, "the queue's `most`, a share per caller"),
    ("gateway/batching.py", "FairQueue"): (1, "gateway.max_waiting, a share per caller"),
    ("gateway/batching.py", "SimpleQueue"): (1, "holds what the FairQueue beside it has admitted"),
    ("gateway/health.py", "Lock"): (1, "health checks share one result; a check has a time limit"),
    ("gateway/health.py", "ThreadPool"): (1, "one check at a time"),
    ("gateway/server.py", "BatchingExecutor"): (1, "gateway.max_waiting, a share per caller"),
    ("gateway/server.py", "ThreadPool"): (3, "gateway.max_waiting or MOST_LONG, a share per account"),
    ("gateway/thread_pool.py", "Condition"): (1, SHORT),
    ("gateway/thread_pool.py", "DaemonExecutor"): (1, "the pool's `most_waiting`, a share per caller"),
    ("gateway/thread_pool.py", "FairQueue"): (1, "the pool's `most_waiting`, a share per caller"),
    ("gateway/throttle.py", "Lock"): (1, SHORT),
    ("iam/conditions.py", "Condition"): (1, "a condition of a policy: nothing waits in it"),
    ("jobs/json_faults.py", "deque"): (1, "local to a function"),
    ("jobs/window.py", "deque"): (2, "a runner's window of one job"),
    ("jobs/workers/engines/local.py", "deque"): (3, "DEPTH tasks of each worker, given by its one owner"),
    ("jobs/workers/process.py", "Queue"): (1, "DEPTH"),
    ("jobs/workers/ray_actor.py", "ThreadPoolExecutor"): (1, "one thread; recordings of DEPTH tasks"),
    ("jobs/workers/ray_actor.py", "Condition"): (1, "tasks of one runner: DEPTH of each actor"),
    ("jobs/workers/ray_driver.py", "SimpleQueue"): (1, "messages of one runner"),
    ("jobs/workers/ray_pool.py", "deque"): (1, "tasks of one runner: DEPTH of each actor"),
    ("metrics/stored.py", "Lock"): (
        1,
        "scrapes share one read of the database; the pool of scrapes is bounded",
    ),
    ("operations/duplicates.py", "FairSlots"): (1, "two searches, one of each account; none waits"),
    ("sessions/listener_thread.py", "deque"): (
        1,
        "a few tasks of each stream; streams are limited per account",
    ),
    ("sessions/manager.py", "ListenerThread"): (1, "ROOM_S of audio of each stream, stepped in turns"),
    ("sessions/manager.py", "Lock"): (1, "short but once: the first call starts the threads"),
    ("sessions/manager.py", "RetryQueue"): (2, "a few tasks of each stream; ATTEMPTS tries of each"),
    ("sessions/opened_domains.py", "Lock"): (1, SHORT),
    ("sessions/retry_queue.py", "Condition"): (1, SHORT),
    ("sessions/retry_queue.py", "deque"): (1, "a few tasks of each stream"),
    ("sessions/risks.py", "FairSemaphore"): (1, "LOADING_WAIT_S; callers wait READY_S at most"),
    ("sessions/risks.py", "Lock"): (4, "one for each domain's index: callers of one domain wait for another"),
    ("sessions/stream.py", "Condition"): (1, "ROOM_S of audio; a carrier waits for its own stream"),
    ("sessions/stream.py", "Lock"): (1, SHORT),
    ("sessions/worker_pool.py", "Lock"): (1, SHORT),
    ("storage/accounts.py", "Lock"): (1, "short; makes the store of an account once"),
    ("storage/database/engine.py", "FairSemaphore"): (
        2,
        "LOCK_TIMEOUT_S, or the pool's: transactions in turns",
    ),
    ("storage/database/engine.py", "Lock"): (2, "migrations, at the start; a reader's own thread"),
    ("storage/database/semaphore.py", "Lock"): (1, SHORT),
    ("storage/database/semaphore.py", "deque"): (1, "the threads of the plan"),
    ("storage/keys/expiring.py", "Lock"): (1, SHORT),
    ("storage/keys/wrapping.py", "Lock"): (1, "scrypt once in a process: half a second"),
    ("storage/keys/stores/aws_kms.py", "Lock"): (2, "short; makes the client of a Region once"),
    ("storage/keys/stores/pkcs11.py", "RLock"): (1, "one operation of the token at a time"),
    ("storage/objects/stores/s3.py", "Lock"): (1, "short; makes the service's own store once"),
    ("voice/audio/decoding/process.py", "Lock"): (2, SHORT),
    ("web/domain_names.py", "Lock"): (1, SHORT),
    ("web/provider.py", "BoundedSemaphore"): (1, "three threads ask the provider, others wait a second"),
    ("web/provider.py", "Lock"): (1, "two requests of the provider, of 5 s at most"),
}

#: Carriers with ports of their own instead of a path.
NO_PATH = ("audiosocket", "siprec")
#: WebSockets, and what limits the time until their first message.
WEBSOCKETS = {
    "/stream": "live.silence_s, which counts from the opening of the stream",
    **{f"/stream/{name}": "ConnectionBounds.open_s" for name in CARRIERS if name not in NO_PATH},
    "/{path:path}": "none is read: it is refused",
}
#: Requests whose bodies have no time limit as a whole, and what limits them instead.
UPLOADS = {
    ("POST", "/stream"): "live.silence_s for each piece, live.max_stream_s, a signature before the body"
}


def calls_of(names: set[str]) -> Counter[tuple[str, str]]:
    """The calls of these names in what is served, by file and name."""
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted(SOURCE.rglob("*.py")):
        file = path.relative_to(SOURCE).as_posix()
        if file.startswith(NOT_SERVED):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and (name := _called(node.func)) in names:
                found[file, name] += 1
    return found


def _called(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=inner):
            return _called(inner)
    return ""


def test_every_pool_queue_and_lock_has_a_declared_limit() -> None:
    declared = {place: count for place, (count, _) in LIMITS.items()}
    found = dict(calls_of(WAITED_FOR))
    assert found == declared, "say in LIMITS how it is bounded, and how callers share it"


def test_no_module_starts_threads_beside_the_pools() -> None:
    assert calls_of({"Thread", "to_thread", "start_new_thread"}) == {("threads.py", "Thread"): 1}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The service's app with all that can be configured."""
    data = tmp_path_factory.mktemp("limits") / "data"
    data.mkdir(mode=0o700)
    put_tables(data / "sonant.db")
    peers: list[MessagesPeer | FramesPeer] = [*MESSAGES_PEERS.values(), *FRAMES_PEERS.values()]
    carriers = {
        "twilio_token": "0123456789abcdef",
        "audiohook_key": "0123456789abcdef",
        "asterisk_user": "pbx",
        "asterisk_password": "0123456789abcdef",
        **{name: value for peer in peers for name, value in peer.settings.items()},
    }
    store = open_store(Settings(data=data, carriers=carriers, metrics=Metrics(enabled=True)), create=True)
    first_start(store)
    built = build_app(store)
    yield built
    built.close()


def requests(routes: tuple[BaseRoute, ...]) -> list[tuple[str, str]]:
    """The methods and paths of all HTTP routes, with the AWS endpoint's."""
    found = [
        (method, route.path.replace("{", "").replace("}", ""))
        for route in routes
        if isinstance(route, Route)
        for method in sorted(route.methods or ())
        if method != "HEAD"
    ]
    return [("POST", "/"), ("GET", "/anything"), *found]


def test_every_route_is_known_and_every_websocket_declared(app: App) -> None:
    assert {type(route) for route in app.routes} == {Route, WebSocketRoute}
    found = {route.path for route in app.routes if isinstance(route, WebSocketRoute)}
    assert found == WEBSOCKETS.keys(), "say in WEBSOCKETS what limits the time until the first message"
    assert UPLOADS.keys() == STREAMED <= set(requests(app.routes))


def test_a_slow_body_is_closed_on_every_route(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [one for one in requests(app.routes) if one not in STREAMED]
    assert len(asked) > 10
    with LimitedServer(app.asgi, UNLIMITED, STREAMED).running() as server, contextlib.ExitStack() as stack:
        lines = {}
        for method, path in asked:
            line = lines[method, path] = stack.enter_context(server.connect())
            line.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1".encode())
        wait_until("all have come", lambda: len(server.made) == len(asked))
        wait_until("all are in their bodies", lambda: all(one.cycle is not None for one in server.made))
        monkeypatch.setattr(http_connection, "BODY_TIME_S", 0.0)
        server.check_times()
        for (method, path), line in lines.items():
            assert is_closed(line), f"{method} {path}"
        wait_until("none is open", lambda: server.table.open == 0)
        assert server.table.losses[Loss.TOO_SLOW] == len(asked)


def test_a_silent_upload_without_a_signature_is_answered_at_once(app: App) -> None:
    with LimitedServer(app.asgi, UNLIMITED, STREAMED).running() as server, server.connect() as line:
        line.sendall(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
        assert head_of(line).split()[1] in (b"400", b"403")
        assert is_closed(line)
