"""Every error Kairos raises on purpose.

    KairosError                    exit 1; its message defaults to the first line of its docstring
    ├── ConfigError                exit 78; names file, line and the nearest key
    ├── UsageError                 exit 2; the caller asked for something that does not exist
    │   ├── NotFoundError
    │   └── AmbiguousIdError
    ├── NotRunningError            exit 3; no daemon answers
    ├── AlreadyRunningError        another daemon holds this home or this workspace
    ├── TransitionError            a row was not in the state the caller believed
    ├── ChannelError               an answer came over a channel that may not give it
    ├── StoreError
    │   ├── SchemaTooNewError      the database was written by a newer Kairos
    │   ├── DiskFullError          nothing more can be made durable; acting stops
    │   └── StaleMemoryError       memory on disk is not what the change was made from; nothing was changed
    ├── JournalBrokenError         the hash chain does not verify
    ├── ModelError                 a model call did not yield an answer
    │   ├── ModelUnavailableError  temporary: down, overloaded, rate-limited, cut, malformed
    │   ├── ModelRefusedError      permanent: the request is refused
    │   │   ├── ContextTooLongError  the prompt is larger than the context window; a shorter one may do
    │   │   └── EndpointRefusedError  every request is refused: bad key, no credit, unknown model or address
    │   └── ModelProtocolError     it answered, but not in the form that was asked for
    │       └── EmptyAnswerError   it answered nothing at all
    ├── ToolError                  goes back to the model as the tool's result
    │   └── ShellFormError         a shell line that is not plain; `fix` is a plain way to write it
    ├── SandboxError               the sandbox does not hold or cannot be built
    │   └── SandboxLeakError       a program got out of it: no later try makes up for that
    ├── ExecutorError              the executor process died or answered nonsense
    ├── CheckoutError              a snapshot, checkout or landing could not be made
    ├── UndoRefusedError           somebody has worked on it since; nothing was taken back
    └── NotifierError              a notifier could not deliver
        └── NotifierRefusedError   permanent: trying again cannot help

What is temporary and what is permanent is said by the class, never by the message.
"""

from __future__ import annotations


class KairosError(Exception):
    """Kairos could not do what was asked."""

    exit_code = 1

    def __init__(self, message: str | None = None, *, fix: str | None = None) -> None:
        doc = (type(self).__doc__ or "").strip().splitlines()
        self.message = message or (doc[0] if doc else type(self).__name__)
        self.fix = fix
        super().__init__(self.message if fix is None else f"{self.message} — {fix}")


class ConfigError(KairosError):
    """The configuration is not usable."""

    exit_code = 78


class UsageError(KairosError):
    """That is not something Kairos understands."""

    exit_code = 2


class NotFoundError(UsageError):
    """There is nothing with that id or name."""


class AmbiguousIdError(UsageError):
    """More than one thing starts with that id."""


class NotRunningError(KairosError):
    """The daemon is not running."""

    exit_code = 3


class AlreadyRunningError(KairosError):
    """Another daemon is already at work here."""


class TransitionError(KairosError):
    """The row was no longer in the expected state."""


class ChannelError(KairosError):
    """An answer like that cannot be given over this channel."""


class StoreError(KairosError):
    """The database could not do what was asked."""


class SchemaTooNewError(StoreError):
    """The database was written by a newer version of Kairos."""

    exit_code = 78


class DiskFullError(StoreError):
    """The disk is full: nothing more can be made durable."""


class StaleMemoryError(StoreError):
    """Memory has been changed since, in an editor or by somebody else: nothing was written."""


class JournalBrokenError(KairosError):
    """The journal's hash chain does not verify."""


class ModelError(KairosError):
    """The model call did not yield an answer."""

    spent: tuple[int, int | None] | None = None  # tokens and micro-dollars of an earlier request for the same answer


class ModelUnavailableError(ModelError):
    """The model cannot be reached or is overloaded; trying again later may help."""

    def __init__(self, message: str | None = None, *, fix: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, fix=fix)
        self.retry_after = retry_after  # seconds; nothing answers before
        self.tries = 1  # requests that failed before this was raised
        self.worked = False  # something of an answer had come, which the provider may charge for


class ModelRefusedError(ModelError):
    """The provider refuses this request; trying again cannot help."""


class ContextTooLongError(ModelRefusedError):
    """The prompt is larger than the model's context window."""


class EndpointRefusedError(ModelRefusedError):
    """The provider refuses every request: the key, the account, the model's name or the address is wrong."""


class ModelProtocolError(ModelError):
    """The model answered, but not in the form that was asked for."""


class EmptyAnswerError(ModelProtocolError):
    """The model answered nothing at all."""


class ToolError(KairosError):
    """The tool could not do that."""


class ShellFormError(ToolError):
    """This shell line is not made of plain commands."""


class SandboxError(KairosError):
    """The sandbox does not hold here, so nothing is run in it."""


class SandboxLeakError(SandboxError):
    """A program in the sandbox could do what it must not."""


class ExecutorError(KairosError):
    """The executor process did not answer."""


class CheckoutError(KairosError):
    """The private checkout could not be made or landed."""


class UndoRefusedError(KairosError):
    """Somebody has worked on it since, so nothing was taken back."""


class NotifierError(KairosError):
    """The notice could not be delivered now."""


class NotifierRefusedError(NotifierError):
    """The notifier refuses this notice; trying again cannot help."""
