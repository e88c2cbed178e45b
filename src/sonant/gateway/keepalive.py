"""TCP keepalive, and how often WebSockets are pinged: dead connections end within seconds.

A network that fails, or a machine that loses power, closes no connection. Without keepalive its calls would
hold their sessions until a limit of the call ends them.
"""

from __future__ import annotations

import socket

#: A WebSocket that has sent nothing for so long is pinged, in seconds.
PING_AFTER_S = 4.0
#: It is closed if it sends nothing, not even the pong, for so long after that.
PONG_WITHIN_S = 4.0

#: TCP: probes after 4 s without data, one every 2 s; the connection breaks when three are not answered.
_TCP_OPTIONS = {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}


def keep_alive(listener: socket.socket) -> None:
    """Have TCP probe the connections that a listening socket accepts, which inherit its options."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS.items():
        option = getattr(socket, name, None)  # not every system has all
        if option is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
