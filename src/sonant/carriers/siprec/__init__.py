"""A session recording server (SIPREC, RFC 7866), to which session border controllers bring copies of calls.

`message`, `sdp`, `metadata` and `rtp` are without I/O; `call` is one recording session, `server` has the
sockets.
"""
