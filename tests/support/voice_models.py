"""The networks that ship with Sonant, opened once a process: each time costs half a second."""

from __future__ import annotations

from functools import cache

from sonant.voice.models import Models, load_models


@cache
def voice_models() -> Models:
    return load_models()
