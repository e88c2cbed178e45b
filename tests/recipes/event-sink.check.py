"""The settings name the new sink, and events arrive on the standard output."""

import subprocess
import sys

from sonant.events.sinks import build_sinks, sink_names
from sonant.settings import loading

settings = loading.load(environment={"SONANT_EVENTS_SINKS": "stdout"})
assert sink_names(settings.events) == ["stdout"]
(sink,) = build_sinks(settings)
assert sink.name == "stdout"

if "--deliver" not in sys.argv:
    done = subprocess.run([sys.executable, __file__, "--deliver"], capture_output=True, check=True)
    assert done.stdout == b'{"one": 1}\n{"two": 2}\n', done.stdout
else:
    assert sink.deliver([b'{"one": 1}', b'{"two": 2}']) == 2
