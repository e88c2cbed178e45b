"""Sonant: a self-hosted voice identity service that answers the Voice ID API.

`sonant.voice` is its public library for speaker recognition; everything else serves the service.
"""

import os

__version__ = "1.0.0rc1"

# From release 1.29 on, onnxruntime sends telemetry unless this is set before its first import. Software that
# handles voiceprints must not.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
