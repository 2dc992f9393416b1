"""The life of one run, read from the journal: what it did in one stretch, and what happened to it between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from kairosd.app.replay.record import Exchange, Row
from kairosd.app.replay.standins import RecordedCall
from kairosd.app.replay.tape import Part, Tape
from kairosd.core.journal import stamp
from kairosd.core.json import Json, JsonObject
from kairosd.core.messages import ToolUse, Usage, UseBroken
from kairosd.engine.asking import Reply
from kairosd.engine.exchanges import read_uses
from kairosd.frozen import frozen

ENDS = ("run.parked", "run.interrupted", "run.ended")
ENDLESS = 1 << 62  # no journal is so long
ANSWERS = ("approval.answered", "approval.expired", "approval.withdrawn")


@frozen
class Step:
    """One thing that happened to a run. `kind` is start, interrupted, answered or requeued.

    `word` is what an approval came to, or why the run was queued again; `id` is the approval's; `ends` (of a start) the
    journal line that ended its part.
    """

    kind: str
    moment: datetime
    word: str = ""
    id: str = ""
    ends: JsonObject | None = None


def steps_of(lines: Sequence[JsonObject]) -> list[Step]:
    """What happened to a run, in the order of its journal lines."""
    steps: list[Step] = []
    working = False
    for index, line in enumerate(lines):
        kind, moment, data = str(line["kind"]), moment_of(line), data_of(line)
        if kind == "run.started":
            working = True
            ends = next((each for each in lines[index + 1 :] if each["kind"] in ENDS), None)
            steps.append(Step("start", moment, ends=ends))
        elif kind in ENDS:
            working = False
            if kind == "run.interrupted":
                steps.append(Step("interrupted", moment))
            elif kind == "run.ended":
                break  # what is withdrawn after the end, is withdrawn by the end
        elif kind in ANSWERS and not working:
            steps.append(Step("answered", moment, str(data["state"]), str(line["id"])))
        elif kind == "run.requeued":
            steps.append(Step("requeued", moment, str(data.get("reason", ""))))
    return steps


def part_of(
    step: Step, left: Sequence[Exchange], *, entries: Sequence[JsonObject], tape: Tape, done: Callable[[int], int]
) -> Part:
    """The part that a start begins, of what is left of the exchanges. `done` says how many calls of a turn had come to
    an outcome by then.

    A crash takes what has not been put down: an answer that is on record and not in the transcript is not given again.
    """
    ends = step.ends
    moment = moment_of(ends) if ends else left[-1].answered if left else step.moment
    stopped = ends is not None and ends["kind"] == "run.ended" and data_of(ends).get("state") == "cancelled"
    cut = ends is None or ends["kind"] == "run.interrupted" or stopped
    mine = [each for each in left if left and each.entry.get("life") == left[0].entry.get("life")]
    until = until_of(step)
    if not cut:
        return Part(mine, moment, until=until)
    began = tape.exchanges.lives[str(mine[0].entry.get("life"))] if mine else ""
    if began and (began > stamp(step.moment) or began >= stamp(moment)):
        mine = []  # of the daemon after this one
    part = Part(mine, moment, cut=True, until=until, taken=len(mine))
    turns = [entry for entry in entries if entry["kind"] == "turn"][tape.turn :]
    made = sum(_makes_turn(each) for each in mine)
    if mine and _makes_turn(mine[-1]) and done(tape.turn + made) < len(_uses(mine[-1])):
        return part  # the crash came while its last calls were made, and comes there again
    return _as_put_down(part, left[len(mine) :], turns=turns)


def until_of(step: Step) -> int:
    """The number of the journal line that ended the part that a start begins."""
    return int(str(step.ends["seq"])) if step.ends else ENDLESS


def _as_put_down(part: Part, later: Sequence[Exchange], *, turns: Sequence[JsonObject]) -> Part:
    """A part that a crash has cut off, as its transcript has it: without an answer that was lost, with one that only
    the transcript has, or with what was heard of the last one. `turns` are those that follow.
    """
    made = [each for each in part.exchanges if _makes_turn(each)]
    following = next((each for each in later if _makes_turn(each)), None)
    count = len(made)
    if made and made[-1] is part.exchanges[-1]:
        last = turns[count - 1] if count <= len(turns) else None
        if last is None or _is_torn(last) or (not _is_of(made[-1], last) and _is_of(following, last)):
            part, count = replace(part, exchanges=part.exchanges[:-1]), count - 1
    turn = turns[count] if count < len(turns) else None
    if turn is None or _is_of(following, turn):
        return part
    if _is_torn(turn):
        return replace(part, torn=(str(turn["text"]), read_uses(turn)))
    return replace(part, spare=_spare(turn))


def recorded_call(
    tape: Tape, row: Row, *, lines: Sequence[JsonObject], entries: Sequence[JsonObject], until: int
) -> RecordedCall:
    """What is on record of one call, as far as the journal line number `until`."""
    call = str(row["id"])
    said = [line for line in lines if line["id"] == call and int(str(line["seq"])) <= until]
    states = [str(line["kind"]).removeprefix("call.") for line in said]
    outcome = next((state for state in reversed(states) if state in ("succeeded", "failed")), "")
    after = states[states.index("unknown") + 1 :] if "unknown" in states else []
    probed = next((state == "succeeded" for state in after if state in ("succeeded", "not_done")), None)
    if probed is False and "intended" in after:
        outcome = next((state for state in reversed(after) if state in ("succeeded", "failed")), "")
    known, plan = tape.seen("plan", call)
    found = _result(row, entries)
    return RecordedCall(
        id=call,
        result=str(row["result"]) if found is None else str(found["text"]),
        evidence="" if found is None else str(found.get("evidence", "")),
        outcome=outcome,
        plan=plan if known and isinstance(plan, Mapping) else None,
        happened=probed,
    )


def moment_of(line: JsonObject) -> datetime:
    """When a journal line was written."""
    return datetime.fromisoformat(str(line["t"]))


def data_of(line: JsonObject) -> Mapping[str, Json]:
    """What a journal line says besides."""
    data = line.get("data")
    return data if isinstance(data, Mapping) else {}


def _result(row: Row, entries: Sequence[JsonObject]) -> JsonObject | None:
    """The result that went back to the model, found by turn and the call's place in it."""
    turn, use = 0, None
    for entry in entries:
        if entry["kind"] == "turn":
            turn += 1
            uses = entry["uses"]
            here = turn == row["turn"] and isinstance(uses, list) and int(str(row["position"])) < len(uses)
            use = uses[int(str(row["position"]))]["id"] if here and isinstance(uses, list) else None
        elif entry["kind"] == "result" and use is not None and entry["use"] == use:
            return entry
    return None


def _makes_turn(exchange: Exchange) -> bool:
    """Whether a turn came of it: by an answer, or by what was heard of one."""
    heard = exchange.entry.get("heard")
    has_uses = isinstance(heard, Mapping) and bool(heard["uses"])
    return exchange.entry.get("role") == "act" and ("reply" in exchange.entry or has_uses)


def _uses(exchange: Exchange) -> Sequence[ToolUse | UseBroken]:
    told = exchange.entry.get("reply", exchange.entry.get("heard"))
    return read_uses(told) if isinstance(told, Mapping) else ()


def _is_torn(turn: JsonObject) -> bool:
    """Whether the turn is what was found of one whose end never came."""
    return bool(turn.get("cut")) and not turn.get("model")


def _is_of(exchange: Exchange | None, turn: JsonObject) -> bool:
    """Whether the turn came of this exchange. Ids of calls may have been made unlike."""
    if exchange is None or _is_torn(turn):
        return False
    told = exchange.entry.get("reply", exchange.entry.get("heard"))
    if not isinstance(told, Mapping):
        return False
    named = [(use.name, getattr(use, "arguments", None)) for use in read_uses(told)]
    found = [(use.name, getattr(use, "arguments", None)) for use in read_uses(turn)]
    return turn["text"] == told["text"] and named == found


def _spare(entry: JsonObject) -> Reply:
    """A turn of the transcript as the answer it was."""
    uses, tokens, price = read_uses(entry), entry.get("tokens"), entry.get("price")
    usage = Usage(input=tokens if isinstance(tokens, int) else None, output=0)
    return Reply(
        str(entry["text"]), uses, "tool_use" if uses else "end", usage, price if isinstance(price, int) else None
    )
