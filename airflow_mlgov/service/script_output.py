"""What a training script says while it runs, and how its end is told."""

from __future__ import annotations

import re
import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

_MAX_LINE_BYTES = 4000
_TAIL_LINES = 20
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass
class OutputLines:
    """Cuts a stream of bytes into lines of at most 4,000 bytes, without control characters.

    Attributes:
        tail: The last 20 lines.
    """

    rest: bytes = b""
    cut: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield each complete line; carriage returns end lines too (progress bars)."""
        *lines, rest = re.split(rb"\r\n|\n|\r", self.rest + data)
        for line in lines:
            yield self._text(line)
        self.cut += max(0, len(rest) - _MAX_LINE_BYTES)
        self.rest = rest[:_MAX_LINE_BYTES]

    def end(self) -> Iterator[str]:
        """Yield what stands after the last line end."""
        if self.rest:
            yield self._text(self.rest)
            self.rest = b""

    def said_last(self) -> str:
        """Return the tail for an error message."""
        said = "\n".join(f"    {line}" for line in self.tail) or "    (nothing)"
        return f"It said last:\n{said}"

    def _text(self, line: bytes) -> str:
        cut = self.cut + max(0, len(line) - _MAX_LINE_BYTES)
        self.cut = 0
        text = _CONTROLS.sub("", line[:_MAX_LINE_BYTES].decode("utf-8", errors="replace"))
        text += f" [... {cut} bytes cut]" if cut else ""
        self.tail.append(text)
        return text


def signal_name(number: int) -> str:
    """Return the name of the signal that ended a script, for people."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return str(number)
    killed = " (the kernel also sends it when the machine runs out of memory)"
    return name + (killed if name == "SIGKILL" else "")
