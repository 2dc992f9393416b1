"""Following a run: its updates as lines of JSON, each flushed as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kairosd.errors import KairosError
from kairosd.ports import Update

HEARTBEAT_SECONDS = 15.0  # a silent peer is noticed by the write that fails; the CLI gives up after three of these


class Following(Response):
    """Streams `updates` as NDJSON until they end; ends with them when the peer goes away.

    An error before the first line is answered by `refuse`; a later one becomes a last line of kind `error`.
    """

    media_type = "application/x-ndjson"

    def __init__(
        self,
        updates: AsyncIterator[Update],
        refuse: Callable[[KairosError], Response],
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store"})
        del self.headers["content-length"]  # of the empty body that the base class expects
        self._updates = updates
        self._refuse = refuse
        self._heartbeat = heartbeat_seconds
        self._started = False
        self._writing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal: list[Response] = []
        async with asyncio.TaskGroup() as tasks:
            pump = tasks.create_task(self._pump(send, refusal))
            others = (
                tasks.create_task(self._beat(send)),
                tasks.create_task(_until_gone(receive, pump)),
            )
            pump.add_done_callback(lambda _: [other.cancel() for other in others])
        if refusal:
            await refusal[0](scope, receive, send)
        elif not pump.cancelled():
            await self._write(send, b"", more=False)

    async def _pump(self, send: Send, refusal: list[Response]) -> None:
        try:
            async for update in self._updates:
                await self._write(send, _line(update))
        except KairosError as error:
            if self._started:
                data = {"fix": error.fix, "exit_code": error.exit_code}
                await self._write(send, _line(Update("error", error.message, data)))
            else:
                refusal.append(self._refuse(error))
        finally:
            if isinstance(self._updates, AsyncGenerator):
                await self._updates.aclose()

    async def _beat(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            await self._write(send, b"\n")

    async def _write(self, send: Send, piece: bytes, *, more: bool = True) -> None:
        async with self._writing:
            if not self._started:
                self._started = True
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _until_gone(receive: Receive, pump: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    pump.cancel()


def _line(update: Update) -> bytes:
    fields = {"kind": update.kind, "text": update.text, "data": dict(update.data)}
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
