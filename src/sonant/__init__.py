"""Sonant: a self-hosted voice identity service that answers the Voice ID API."""

__version__ = "0.1.0"
