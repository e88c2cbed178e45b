"""Carriers: how calls arrive at the service.

A carrier is one module of `providers`: its protocol as an adapter without I/O, its authentication, its
settings, and a function that builds it from them. `registry` finds it. The transports beside them are shared:
`websocket` and `tcp` connections, which `relay` connects to streams, and `upload`.
"""
