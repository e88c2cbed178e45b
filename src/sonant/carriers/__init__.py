"""Carriers: how calls arrive at the service.

A carrier is one module: its protocol as an adapter without I/O, its authentication, and a function that makes
both from the settings, listed in `registry`. The transports beside them are shared: `websocket` and `tcp`
connections, which `relay` connects to streams, and `upload`.
"""
