"""Statements that go to the server together, and are answered together: one trip, one transaction.

A cursor looks at every value, converts it and asks the server once more for each step; an append is
too small for that. Here each value is bytes as the server takes them, and each statement is
prepared on the trip that needs it first.
"""

from __future__ import annotations

import select
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

BYTEA, TEXT, BYTEA_ARRAY, TEXT_ARRAY = 17, 25, 1001, 1009
"""Numbers of types, the same in every PostgreSQL."""


@dataclass(frozen=True)
class Statement:
    """What is prepared once in a session.

    Attributes:
        name: Its name there.
        text: SQL with parameters ``$1``, ``$2`` and so on.
        types: Of the parameters.
    """

    name: bytes
    text: bytes
    types: tuple[int, ...]


Call: TypeAlias = tuple[Statement, Sequence[bytes]]
"""A statement, and its parameters as the server's binary format has them."""


class Trips:
    """Sends calls over a session in which nothing else is under way.

    Args:
        connection: The session, with autocommit.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._server = connection.pgconn
        self._prepared: set[bytes] = set()
        self._poll = select.poll()

    def make(self, *calls: Call) -> list[PGresult]:
        """Send calls as one transaction, wait for its commit, and return what each answered.

        Raises:
            psycopg.Error: Of the first that failed, or of the commit: none of them was done, and
                the session can be used on.
            psycopg.OperationalError: The session broke; whether they were done is not known.
        """
        server = self._server
        server.enter_pipeline_mode()
        new = [statement for statement, _ in calls if statement.name not in self._prepared]
        for statement in new:
            server.send_prepare(statement.name, statement.text, statement.types)
        for statement, values in calls:
            server.send_query_prepared(statement.name, values, [1] * len(values))
        server.pipeline_sync()
        while server.flush():
            if self._wait(select.POLLIN | select.POLLOUT) & ~select.POLLOUT:
                server.consume_input()
        answers = self._answers()
        server.exit_pipeline_mode()
        self._prepared.update(
            statement.name
            for statement, answer in zip(new, answers, strict=False)
            if answer.status == ExecStatus.COMMAND_OK
        )
        for answer in answers:
            if answer.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(answer)
        return answers[len(new) :]

    def _answers(self) -> list[PGresult]:
        server = self._server
        answers: list[PGresult] = []
        while True:
            while server.is_busy():
                self._wait(select.POLLIN)
                server.consume_input()
            answer = server.get_result()  # None between two calls
            if answer is not None and answer.status == ExecStatus.PIPELINE_SYNC:
                return answers
            if server.status == ConnStatus.BAD:
                raise psycopg.OperationalError("the server broke off in the middle of its answers")
            if answer is not None:
                answers.append(answer)

    def _wait(self, events: int) -> int:
        self._poll.register(self._server.socket, events)
        return self._poll.poll()[0][1]


def array(kind: int, items: Sequence[bytes]) -> bytes:
    """Return an array as the server's binary format has it.

    Args:
        kind: Type of the items.
        items: In their binary format.

    Source:
        PostgreSQL, src/backend/utils/adt/arrayfuncs.c, array_recv.
    """
    head = struct.pack("!5i", 1, 0, kind, len(items), 1)
    return head + b"".join(struct.pack("!i", len(item)) + item for item in items)
