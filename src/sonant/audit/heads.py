"""Records the last lines of all chains in the database, and sends them to places outside, at intervals."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from sonant.audit.chain import BEGINNING
from sonant.audit.destinations import Destination, HeadMessage
from sonant.audit.key_files import ChainState, KeyFiles
from sonant.errors import SonantError
from sonant.storage.database.engine import Database
from sonant.storage.repositories import audit_chains
from sonant.storage.repositories.audit_chains import RecordedChain
from sonant.threads import start_loop

log = logging.getLogger(__name__)

_HOST_CHARACTERS = 255
#: Interval of the checks until there are lines.
FIRST_S = 1.0
#: How long `stop` waits for heads that are being sent.
STOP_S = 15.0


def host_name() -> str:
    """Return this machine's name, which says in the database whose folder holds a chain."""
    return socket.gethostname()[:_HOST_CHARACTERS]


class ChainRegister:
    """The rows of the chains of this machine's data folder in the database."""

    def __init__(self, row_key: Callable[[], bytes], clock: Callable[[], datetime]) -> None:
        """`row_key` returns the key of the codes of rows, which may be renewed meanwhile."""
        self._row_key, self._clock = row_key, clock

    def begin(self, connection: Connection, name: str, chain_id: str) -> None:
        """Record a chain before its first sealed line."""
        self._put(connection, chain_id, name, 0, BEGINNING)

    def record(self, connection: Connection, name: str, state: ChainState) -> None:
        """Record the last line of a chain."""
        self._put(connection, state.chain_id, name, state.sequence - 1, state.head)

    def _put(self, connection: Connection, chain_id: str, name: str, sequence: int, head: str) -> None:
        chain = RecordedChain(chain_id=chain_id, name=name, host=host_name(), sequence=sequence, head=head)
        audit_chains.record(connection, self._row_key(), chain, self._clock())


class HeadKeeper:
    """Records and sends heads. `check` is called by its thread only."""

    def __init__(
        self,
        *,
        keys: KeyFiles,
        database: Database,
        register: ChainRegister,
        installation: Callable[[], str],
        destinations: Sequence[Destination],
        interval_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        """`installation` returns the id that heads are sent with."""
        self._keys, self._database, self._register = keys, database, register
        self._installation, self._interval_s, self._clock = installation, interval_s, clock
        self._destinations = destinations
        self._recorded: dict[str, str] = {}  # hash of the last line that was recorded, by name
        self._sent: dict[tuple[str, str], str] = {}  # the same by destination and name
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Record all heads now, then at intervals in a thread."""
        self._record(self._states())
        self._thread = start_loop(self._run, "audit heads")

    def stop(self) -> None:
        """Record and send the last heads, and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        stopped = False
        while not stopped:
            # A chain's first lines are recorded at once: what is not recorded is not missed.
            interval_s = self._interval_s if self._recorded else min(FIRST_S, self._interval_s)
            stopped = self._stop.wait(interval_s)
            self.check()

    def check(self) -> None:
        """Record and send the heads that are new. What fails is logged, and done with the next heads."""
        states = self._states()
        try:
            self._record(states)
        except SonantError as fault:
            log.warning("the heads of the audit trail are not recorded in the database: %s", fault)
        for destination in self._destinations:
            try:
                self._send(destination, states)
            except SonantError as fault:
                log.warning("the heads of the audit trail are not sent to %s: %s", destination.shown, fault)

    def _states(self) -> dict[str, ChainState]:
        """Read the key files of all chains that have lines. One that is damaged is left to `verify`."""
        found = {}
        for name in self._keys.names():
            try:
                state = self._keys.read(name)
            except ValueError as fault:
                log.warning("the key file of the audit trail %s is damaged: %s", name, fault)
                continue
            if state is not None and state.sequence > 1:
                found[name] = state
        return found

    def _record(self, states: dict[str, ChainState]) -> None:
        new = {name: state for name, state in states.items() if self._recorded.get(name) != state.head}
        if not new:
            return
        with self._database.write() as connection:
            for name, state in new.items():
                self._register.record(connection, name, state)
        self._recorded.update({name: state.head for name, state in new.items()})

    def _send(self, destination: Destination, states: dict[str, ChainState]) -> None:
        new = {
            name: state
            for name, state in states.items()
            if self._sent.get((destination.shown, name)) != state.head
        }
        if not new:
            return
        time = f"{self._clock():%Y-%m-%dT%H:%M:%SZ}"
        heads = [
            HeadMessage(
                installation=self._installation(),
                chain_id=state.chain_id,
                name=name,
                host=host_name(),
                sequence=state.sequence - 1,
                head=state.head,
                mac=state.mac,
                time=time,
            )
            for name, state in new.items()
        ]
        destination.send(heads)
        self._sent.update({(destination.shown, name): state.head for name, state in new.items()})
