"""desktop: notices on the owner's desktop, by way of desktop-notifier (on Linux the session bus)."""

from __future__ import annotations

import asyncio
import html
import logging

from dbus_fast.errors import DBusFastError
from desktop_notifier import DesktopNotifier, Notification, Urgency

from kairosd.config import DesktopSection
from kairosd.core.notices import Notice, Severity
from kairosd.errors import NotifierError, NotifierRefusedError
from kairosd.notifiers.deps import NotifierDeps
from kairosd.ports import Notifier

ANSWER_SECONDS = 15
BODY_LENGTH = 1000  # characters; desktops show a few lines
URGENCIES = {
    Severity.LOW: Urgency.Low,
    Severity.NORMAL: Urgency.Normal,
    Severity.HIGH: Urgency.Normal,
    Severity.URGENT: Urgency.Critical,
}
# Everything a bus that is missing, gone or without a notification server has been seen to raise.
BUS_ERRORS = (DBusFastError, OSError, EOFError, KeyError, TimeoutError)
FIX = "start kairosd in your desktop session (kairos service install), or remove [notifiers.desktop]"


class Desktop:
    """Shows notices as desktop notifications; reconnects after the session ended."""

    name = "desktop"

    def __init__(self) -> None:
        # It logs every failure with a traceback and raises none; ours are said once, by the outbox.
        logging.getLogger("desktop_notifier").setLevel(logging.CRITICAL)
        self._notifier: DesktopNotifier | None = None

    async def deliver(self, notice: Notice) -> str:
        shown: list[bool] = []
        notification = Notification(
            title=notice.title,
            message=html.escape(notice.body[:BODY_LENGTH], quote=False),  # desktops read the body as markup
            urgency=URGENCIES[notice.severity],
            on_dispatched=lambda: shown.append(True),
        )
        notifier = self._notifier or await self._connect()
        async with asyncio.timeout(ANSWER_SECONDS):
            await notifier.send_notification(notification)
        # send_notification swallows its own failures; only this callback tells success.
        if not shown:
            await self.close()
            raise NotifierError("the desktop did not take the notification", fix="a new connection is tried")
        return f"shown on the desktop as {notification.identifier}"

    async def arrived(self, notice: Notice) -> bool:
        raise NotifierError("a desktop keeps no list of what it has shown")

    async def close(self) -> None:
        notifier, self._notifier = self._notifier, None
        # The package has no way to let go of the bus; without this the socket outlives us.
        bus = getattr(notifier._backend, "bus", None) if notifier else None
        if bus is not None:
            bus.disconnect()

    async def _connect(self) -> DesktopNotifier:
        self._notifier = DesktopNotifier(app_name="Kairos", app_icon=None)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._notifier.get_capabilities()
        except BUS_ERRORS as error:
            await self.close()
            why = str(error) or type(error).__name__
            raise NotifierRefusedError(f"there is no desktop to notify: {why}", fix=FIX) from error
        return self._notifier


def build(section: DesktopSection, deps: NotifierDeps) -> Notifier:
    return Desktop()
