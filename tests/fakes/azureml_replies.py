"""Answers of the fake Azure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def failure(how: str) -> Reply:
    if how == "throttle":
        return refusal(429, "TooManyRequests", "Slow down.", {"Retry-After": "17"})
    if how == "expired":
        return refusal(401, "ExpiredAuthenticationToken", "The access token has expired.")
    if how == "quota":
        return refusal(400, "QuotaExceeded", "Requested 4 cores, and 0 are left of the quota.")
    if how == "denied":
        return refusal(403, "AuthorizationFailed", "The client has no right to do this.")
    return refusal(500, "InternalServerError", "Something went wrong.")


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Reply:
    reply = json_reply(status, {"error": {"code": code, "message": message}})
    return Reply(reply.status, reply.body, {**reply.headers, **(headers or {})})


def json_reply(status: int, value: Any) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})
