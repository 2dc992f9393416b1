"""Server-sent events (WHATWG HTML, section 9.2), decoded from bytes as they come."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

LINE_LIMIT = 4 * 1024 * 1024  # characters; far above any model's event, far below what would hurt


class MalformedStreamError(ValueError):
    """The bytes are no event stream."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `name` is empty where the server gave none."""

    name: str
    data: str


class EventDecoder:
    """Takes bytes in pieces of any size and gives back whole events; comments and unknown fields are skipped."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("strict")
        self._rest = ""
        self._name = ""
        self._data: list[str] = []
        self._fresh = True

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events completed by `piece`. Raises `MalformedStreamError` on bytes that are not UTF-8 or a huge line."""
        try:
            text = self._text.decode(piece)
        except UnicodeDecodeError as error:
            raise MalformedStreamError("not UTF-8") from error
        if self._fresh and text:
            text = text.removeprefix("\ufeff")
            self._fresh = False
        lines = self._split(self._rest + text)
        return [event for line in lines if (event := self._line(line)) is not None]

    def _split(self, text: str) -> list[str]:
        held = "\r" if text.endswith("\r") else ""  # its "\n" may come with the next piece
        body = text.removesuffix(held) if held else text
        *lines, rest = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = rest + held
        if len(self._rest) > LINE_LIMIT:
            raise MalformedStreamError("a line without an end")
        return lines

    def _line(self, line: str) -> ServerEvent | None:
        if line == "":
            event = ServerEvent(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None
