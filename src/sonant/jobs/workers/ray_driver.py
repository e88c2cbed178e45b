"""The process between the runner and a Ray cluster. Nothing else imports Ray.

From the runner come

    do [(NUMBER, SEALED TASK, PIECES OF ANSWER), ...]     forget

and go to it

    capacity COUNT     ready     done NUMBERS SEALED-RESULTS     refused NUMBER WHY     lost WHY     away WHY

`ready` and `lost` tell of an actor that got ready, or ended before it did; WHY is empty while that may be
chance.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import time
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from sonant.jobs.workers.ray_pool import ActorPool, Cluster, Events
from sonant.threads import start_once

_CONNECT_S, _END_S = 5.0, 3.0


def drive(pipe: Connection, cluster: Cluster, time_limit_s: float, key: bytes, start: bytes) -> None:
    """Run until the pipe ends, or the cluster cannot be used."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C in a terminal is for the runner, which ends this process
    events: Events = queue.SimpleQueue()
    # Without this thread the process would hold the actors for ever; if it ends, the runner starts another.
    start_once(partial(_receive, pipe, events), "runner's messages", failed=lambda _: os._exit(1))
    try:
        ray = _connect(cluster)
    except Exception as fault:  # noqa: BLE001 - Ray's errors share no base here
        pipe.send(("away", str(fault).partition("\n")[0][:200] or type(fault).__name__))
        return
    ActorPool(ray, pipe, events, cluster, time_limit_s, key, start).run()


def _receive(pipe: Connection, events: Events) -> None:
    while True:
        try:
            events.put(pipe.recv())
        except (EOFError, OSError):
            # The runner has ended. Ray will report actors lost with their driver, which is expected.
            logging.disable()
            with suppress(Exception):
                start_once(_end_late, "end", failed=lambda _: os._exit(0))
                import ray

                ray.shutdown()
            os._exit(0)


def _end_late() -> None:
    time.sleep(_END_S)
    os._exit(0)


def _connect(cluster: Cluster) -> Any:
    """Connect, and return the module `ray`. Raises what Ray raises."""
    host, _, port = cluster.address.rpartition(":")
    if host:
        # Ray itself tries for minutes, and its error says less.
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    ray = load_ray()
    ray.init(
        address=cluster.address, namespace=cluster.namespace, log_to_driver=False, configure_logging=False
    )
    return ray


def load_ray() -> Any:
    """Import the module `ray` without usage reports, and so that it never starts a cluster of its own.

    Any call would start one, which listens on all interfaces, while Ray is not connected: before the cluster
    answers, and between the loss of the connection and the end of this process.
    """
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_AUTO_CONNECT="0")
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray
