"""Sonant: a self-hosted voice identity service that answers the Voice ID API."""

import os

__version__ = "0.1.0"

# From release 1.29 on, onnxruntime reports to its maker unless this is set before it is first imported. What
# holds voiceprints reports to nobody.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
