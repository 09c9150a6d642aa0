"""The application on a port, until it is interrupted."""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
from types import FrameType
from typing import Any

import uvicorn

from metagene_classifier.errors import ConfigError

__all__ = ["Server", "address_of", "bound_socket", "is_loopback", "listen"]

GRACE_S = 5
"""Answers that are on their way may end for so long."""


def bound_socket(host: str, port: int) -> socket.socket:
    """A port of its own, before anything slow is done.

    Args:
        host: address or name of this machine.
        port: 0 takes a free one.

    Raises:
        ConfigError: the port is taken or not allowed, or the address is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host {host}: no such address") from error
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # of two servers on one port only this tells the second
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is in use: give another --port, or 0 for any free one") from error
        if error.errno == errno.EACCES:
            raise ConfigError(f"port {port} is not allowed for you: give --port of 1024 or more") from error
        raise ConfigError(f"--host {host}: {error.strerror}: give an address of this machine") from error
    return bound


def is_loopback(host: socket.socket) -> bool:
    """Whether this machine alone can reach a bound socket."""
    return ipaddress.ip_address(host.getsockname()[0].partition("%")[0]).is_loopback


def address_of(bound: socket.socket) -> str:
    """What to type into a browser."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/" if bound.family == socket.AF_INET6 else f"http://{host}:{port}/"


class Server(uvicorn.Server):
    """uvicorn that lets waiting requests know at once when it is to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stops = threading.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take note of a signal; a second interrupt ends without waiting."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self.stops.set()

    def stop(self) -> None:
        """As a signal does, from another thread."""
        self.stops.set()
        self.should_exit = True


def listen(application: Any) -> Server:
    """A server for an ASGI application; its ``run(sockets=[…])`` ends with SIGINT or SIGTERM."""
    return Server(
        uvicorn.Config(
            application,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
