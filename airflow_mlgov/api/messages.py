"""Reading a request's body and sending an answer, as ASGI messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

MAX_BODY_BYTES = 1 << 20


async def read_body(receive: Receive) -> tuple[bytes | None, Receive]:
    """Return a request's body, and a channel from which it can be read once more.

    A body of more than `MAX_BODY_BYTES` is not read: it is None, and its rest stays where it is.
    """
    messages: list[Message] = []
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        message = await receive()
        messages.append(message)
        body.extend(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    unread = iter(messages)

    async def receive_again() -> Message:
        return next(unread, None) or await receive()

    return (bytes(body) if len(body) <= MAX_BODY_BYTES else None), receive_again


async def send_json(
    send: Send, status: int, value: Any, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer a request with JSON."""
    body = json.dumps(value).encode()
    said = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*said, *headers]})
    await send({"type": "http.response.body", "body": body})
