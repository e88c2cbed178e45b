"""The voice pipeline: bytes -> waveform -> speech -> embedding -> similarity.

Pure functions: no files but the shipped models, no settings, no clock, no logging. `models.load_models` is
called once a process and its result passed on.
"""
