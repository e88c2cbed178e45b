"""A process that holds a call until it is killed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from batch_testbed import Testbed
from live_testbed import LiveTestbed, customer

from sonant.settings import Enrollment, Fraud, Live, Settings


def hold(data: str, recording: str, domain_id: str, name: str) -> None:
    settings = Settings(
        data=Path(data),
        encoder="ge2e",
        enrollment=Enrollment(net_speech_s=6.0),
        fraud=Fraud(spoofing_max_s=0),
        live=Live(workers=1),
    )
    live = LiveTestbed.of(Testbed.open(settings))
    stream = live.open(domain_id, name)
    live.push(stream, customer(Path(recording).read_bytes()))
    print("processed", flush=True)
    signal.pause()


if __name__ == "__main__":
    hold(*sys.argv[1:])
