"""What is said to a model and what it says back, in no provider's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from kairosd.core.json import Json, JsonObject
from kairosd.core.memo import Memo
from kairosd.errors import ModelError
from kairosd.frozen import frozen

TAKES_BACK = "back_"  # how the id of a call begins by which the daemon undoes the last change, since it did not help


@frozen
class ToolUse:
    """A call the model asks for. `id` is the provider's own and goes back with the result."""

    id: str
    name: str
    arguments: Mapping[str, Json]


@frozen
class ToolResult:
    """The answer to the `ToolUse` with the same id."""

    id: str
    text: str
    error: bool = False


@frozen
class Message:
    """One side's words. A `user` message carries text and results, an `assistant` message text and uses.

    `digest` is how the workspace stood by then, in the daemon's own words: only the newest one matters.
    """

    role: Literal["user", "assistant"]
    text: str = ""
    uses: tuple[ToolUse, ...] = ()
    results: tuple[ToolResult, ...] = ()
    digest: str = ""

    @property
    def words(self) -> str:
        """The text and the digest, as a model is shown them."""
        return f"{self.text}\n\n{self.digest}" if self.text and self.digest else self.text or self.digest


@frozen
class ToolSpec:
    """A tool as the model sees it. `schema` is a JSON schema of type object."""

    name: str
    description: str
    schema: JsonObject


@frozen
class Form:
    """A forced structured answer: the model must fill this schema and say nothing else."""

    name: str
    description: str
    schema: JsonObject


@frozen
class Block:
    """An answer in plain text, whose fenced block becomes `argument` of the call `use`: the one most `like` a text."""

    use: ToolUse
    argument: str
    like: str


@frozen
class Prompt:
    """One request. `system` is the stable prefix (cacheable as a whole); `max_tokens` bounds the answer.

    With a `form` the answer comes as one `ToolUse` named after it; `tools` is then empty. `tokens` is what its maker
    has estimated already of system text, tools and messages; 0 = nobody has.

    `narrowed` are the calls that make sense at this very step: a model whose answers are forced by a schema is held to
    them, no other is shown them. `vary` says how often such a model has answered in vain: it shall then give other
    answers than the likeliest. With a `block` such a model answers in plain text. `thinking` are the tokens beyond
    `max_tokens` that were reserved for the model to think in first. `memo` is that of the conversation, where the
    prompt is one of many of it.
    """

    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    form: Form | None = None
    max_tokens: int = 2048
    tokens: int = field(default=0, compare=False)
    narrowed: tuple[ToolSpec, ...] = ()
    vary: int = 0
    block: Block | None = None
    thinking: int = 0
    memo: Memo = field(default_factory=Memo, compare=False, repr=False)


@frozen
class TextDelta:
    """Some more of the model's prose."""

    text: str


@frozen
class UseReady:
    """A tool call whose block is complete; the stream may go on after it."""

    use: ToolUse


@frozen
class UseBroken:
    """A tool call whose arguments are not an object of valid JSON: goes back to the model as an error."""

    id: str
    name: str
    problem: str


@frozen
class Usage:
    """Tokens of one call as the provider counted them; None where it did not say."""

    input: int | None = None
    output: int | None = None
    cache_read: int = 0
    cache_write: int = 0


@frozen
class Done:
    """The end of a whole stream. A stream without it was cut."""

    stop: Literal["end", "tool_use", "length", "refusal"]
    usage: Usage = field(default_factory=Usage)


StreamPart: TypeAlias = TextDelta | UseReady | UseBroken | Done


class NeedsRoomError(ModelError):
    """The model used up its answer by thinking.

    Asked again, it is given room for both. `usage` was used in vain.
    """

    def __init__(self, usage: Usage) -> None:
        super().__init__()
        self.usage = usage
