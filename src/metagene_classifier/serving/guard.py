"""What stands before the application: who may talk to it, how much they may send, and what every answer says.

A page of another site can make a browser send requests to this machine. Two checks keep it out: the host that a request
names must be ours (or else that site's name may have been pointed here: DNS rebinding), and whatever changes something
must come from our own page, or from a program that is no browser.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException

from metagene_classifier.serving.limits import Limits

__all__ = ["HEADERS", "Guard"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_READING = frozenset({"GET", "HEAD"})
_ROOM_BESIDE_QUEUE = 4
"""Requests whose bodies come in, or are parsed, while the queue is full."""


class Guard:
    """An ASGI application around another.

    Args:
        application: the guarded one.
        limits: of bodies.
        hosts: names by which this server may be asked for, beside ``localhost`` and addresses in numbers.
    """

    def __init__(self, application: Application, limits: Limits, hosts: Iterable[str] = ()) -> None:
        self._application = application
        self._limits = limits
        self._hosts = {"localhost", *(host.lower().rstrip(".") for host in hosts)}
        self._open = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [pair for pair in message.get("headers", []) if pair[0].decode("latin-1").lower() not in HEADERS]
                message["headers"] = [*own, *((name.encode(), value.encode()) for name, value in HEADERS.items())]
            await send(message)

        refused = self._refused(scope)
        if refused is not None:
            await _refuse(guarded_send, *refused)
            return
        if scope["method"] in _READING:
            await self._application(scope, receive, guarded_send)
            return
        self._open += 1
        try:
            await self._application(scope, self._bounded(receive), guarded_send)
        finally:
            self._open -= 1

    def _refused(self, scope: MutableMapping[str, Any]) -> tuple[int, str] | None:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            if headers.setdefault(key, text) != text and key in ("host", "origin", "content-length"):
                return 400, f"two different headers {key!r}"
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, f"this server is not {_shown(host)}: ask for it by its address, or start it with --allow-host"
        if scope["method"] in _READING:
            return None
        origin = headers.get("origin")
        if origin is not None and not _is_of(origin, host):
            return 403, "a page of another site may not send reads here"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return 403, "a page of another site may not send reads here"
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._limits.max_bytes:
            return 413, self._too_large()
        if self._open >= self._limits.max_queued + _ROOM_BESIDE_QUEUE:
            return 503, "too many requests at once: come again"
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if not host or "@" in host or "/" in host:
            return False
        if name.rstrip(".") in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True  # no name, so nobody can have pointed it elsewhere

    def _bounded(self, receive: Receive) -> Receive:
        """``receive`` that refuses a body which is too large, or which takes too long."""
        left = self._limits.max_bytes
        ends = time.monotonic() + self._limits.timeout_s
        whole = False

        async def bounded() -> Message:
            nonlocal left, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.01, ends - time.monotonic()))
            except TimeoutError:
                raise HTTPException(408, "the reads did not come in time") from None
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if left < 0:
                    raise HTTPException(413, self._too_large())
            return message

        return bounded

    def _too_large(self) -> str:
        return f"more than {self._limits.max_bytes:,} bytes (--max-bytes): send fewer reads at once"


def _shown(host: str) -> str:
    return repr(host[:80]) if host else "one without a name"


async def _refuse(send: Send, status: int, line: str) -> None:
    body = json.dumps({"error": line}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_of(origin: str, host: str) -> bool:
    """Whether a page's origin is this host."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
