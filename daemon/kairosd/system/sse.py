"""Server-sent events (WHATWG HTML, section 9.2), decoded from bytes as they come."""

from __future__ import annotations

import codecs

from kairosd.frozen import frozen

EVENT_LIMIT = 4 * 1024 * 1024  # characters; far above any model's event, far below what would hurt


class MalformedStreamError(ValueError):
    """The bytes are no event stream."""


@frozen
class ServerEvent:
    """One event. `name` is empty where the server gave none."""

    name: str
    data: str


class EventDecoder:
    """Takes bytes in pieces of any size and gives back whole events; comments and unknown fields are skipped."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("strict")
        self._line: list[str] = []  # pieces of the line that has not ended yet; joined once, however many they are
        self._returned = False  # the last piece ended in "\r": its "\n" may come with the next one
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        self._fresh = True

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events completed by `piece`. Raises `MalformedStreamError`: not UTF-8, or a huge event."""
        try:
            text = self._text.decode(piece)
        except UnicodeDecodeError as error:
            raise MalformedStreamError("not UTF-8") from error
        if self._fresh and text:
            text = text.removeprefix("\ufeff")
            self._fresh = False
        self._size += len(text)
        events = [event for line in self._split(text) if (event := self._take(line)) is not None]
        if self._size > EVENT_LIMIT:
            raise MalformedStreamError("an event without an end")
        return events

    def _split(self, text: str) -> list[str]:
        """The lines that `text` completes; only what is new is looked through."""
        if self._returned and text:
            text, self._returned = text.removeprefix("\n"), False
        self._returned = self._returned or text.endswith("\r")
        first, *others = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._line.append(first)
        if not others:
            return []
        lines = ["".join(self._line), *others[:-1]]
        self._line = [others[-1]]
        return lines

    def _take(self, line: str) -> ServerEvent | None:
        if line == "":
            event = ServerEvent(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None
