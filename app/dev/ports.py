"""Free ports of 127.0.0.1."""

import secrets
import socket

PORTS = range(20_000, 32_000)
"""Below the ports that Linux (from 32768) and macOS (from 49152) give to outgoing connections: a client that
reconnects to a dead service could get its port, connect to itself and prevent the service's restart."""


def free_port() -> int:
    """Return a port without a listener. Another program can take it before the caller does; then try again."""
    while True:
        port = secrets.choice(PORTS)
        if _can_bind(port):
            return port


def is_free(port: int) -> bool:
    """Whether a server can listen on `port` now, also directly after another server stopped."""
    return _can_bind(port, reuse_address=True)


def choose_port(port: int, *, other_than: int | None = None) -> int:
    """Return `port` if it is free, else another free port."""
    return port if port != other_than and is_free(port) else free_port()


def _can_bind(port: int, *, reuse_address: bool = False) -> bool:
    with socket.socket() as probe:
        if reuse_address:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
