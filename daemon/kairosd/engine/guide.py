"""The guide: what the daemon does by itself in a run whose model is small, so that little is left to guess.

Before the first turn it reads what the goal is about and runs the tests; after each change it runs them again, takes
back a change that did not help, and ends the run when they prove the goal. These are calls like the model's own: they
pass gate and ledger and are in the transcript, with an id that begins with `own`. What it knows it takes from there, so
a restart goes on where it was. It also says which calls make sense at a step, and what must hold at the end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kairosd.core import aims
from kairosd.core.aims import Aim
from kairosd.core.dream_support import orders
from kairosd.core.json import JsonObject
from kairosd.core.memory import Kind
from kairosd.core.messages import TAKES_BACK, Block, Message, Prompt, ToolUse
from kairosd.core.narrowing import View, narrowed
from kairosd.core.paths import matches
from kairosd.core.proofs import tells_of_tests
from kairosd.core.rewriting import ANSWER_TOKENS, LIKELIEST, imported, request, target
from kairosd.core.secrets import Scrubber
from kairosd.engine.checks import Sight, evaluate
from kairosd.engine.conversation import Conversation
from kairosd.engine.past import (
    OWN,
    Past,
    failures_before,
    in_vain,
    lasting_change,
    past_of,
    shows_whole,
    takes_back,
    undoing,
)
from kairosd.engine.proving import Proving, failing, fails, tests_of, usable
from kairosd.errors import ToolError
from kairosd.frozen import frozen
from kairosd.ports import Files, Finish
from kairosd.prompts import text_of

LEAD_CHARS = 3600  # of files that are read before the first turn: about 1,000 tokens
LEAD_FILES = 5
WINDOW_LINES = 60  # of a file that is too long to be shown whole
FILES_MOST, FILE_BYTES, ALL_BYTES = 3000, 60_000, 10_000_000  # of what it looks through; the rest is left to grep
TEST_SECONDS = 60
NO_TEST = "[No test has passed in this run.]"  # beside an answer that says otherwise
GIVE_UP_TURNS = 14  # of the model's own, after which it may end without having done anything
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's name of it: what a run without a commit began from


@frozen
class Hidden:
    """What no model is shown: files by their globs, and what is scrubbed out of all others."""

    paths: Sequence[str]
    scrub: Scrubber


class Guide:
    """Guides one run. `workspace` is the owner's folder. With `commands` the tests may be run."""

    def __init__(self, goal: str, files: Files, *, workspace: Path, hidden: Hidden, commands: bool) -> None:
        self.aim = Aim(goal)
        self._files = files
        self._workspace = workspace
        self._hidden = hidden
        self._proving = Proving(self.aim, commands=commands)
        self._began: Mapping[str, str] | None = None

    async def next_call(self, talk: Conversation, sight: Sight, *, base: str | None) -> ToolUse | None:
        """The call that the daemon makes now by itself; None where it is the model's turn."""
        began, past = await self._first_texts(), past_of(talk)
        name = f"{OWN}_{talk.turn + 1}"
        if self.aim.note:
            return replace(_keeping(self.aim.note, past), id=name)
        if self.aim.is_about_last_commit:  # files as they are tell nothing of it
            return None if past else ToolUse(name, "git_show", {})
        lead = _lead(self.aim, began)
        made = [each.use.arguments.get("path") for each in past if each.own and each.use.name == "read"]
        if todo := [use for use in lead if use.arguments["path"] not in made][: LEAD_FILES - len(made)]:
            return replace(todo[0], id=name) if not any(not each.own for each in past) else None
        if not self.aim.is_change or (past and takes_back(past[-1])):
            return None
        command = self._proving.command(past, began)
        if past and past[-1].is_change:
            found = await self._after_change(past, sight, base=base) or await self._astray(past, sight, base=base)
            if found is not None:
                return replace(found, id=f"{found.id if found.id == TAKES_BACK else ''}{name}")
        last_change = lasting_change(past)
        tested = max((at for at, each in enumerate(past) if each.is_test), default=-1)
        half = self.aim.renaming is not None and last_change >= 0 and await self._places(sight)
        if command and tested <= last_change and not half:
            return ToolUse(name, "shell", {"command": command, "timeout": TEST_SECONDS})
        if last_change >= 0 and tested > last_change and past[-1].is_test:
            return await self._after_tests(past, sight, base=base, name=name)
        return None

    async def narrow(self, prompt: Prompt, talk: Conversation, *, sight: Sight, base: str | None) -> Prompt:
        """`prompt` with the calls that make sense now; after a call in vain the answer may also vary."""
        view, whole = await self._view(talk, sight, base=base)
        most = min(prompt.max_tokens, ANSWER_TOKENS)  # for a small model: what is longer was not meant
        # What would have changed nothing cannot be said again anyway: the likeliest of the rest is as good as ever.
        vain = sum(use.arguments.get("old", "") != use.arguments.get("new") for use in view.tried)
        if whole and prompt.max_tokens >= 2 * ANSWER_TOKENS and any(tool.name == "write" for tool in prompt.tools):
            path, text = whole
            use = ToolUse(f"whole_{talk.turn + 1}", "write", {"path": path})
            block = Block(use, "content", like=view.known.get(path, ""))
            rest = prompt.system.removeprefix(text_of("act_small")).removeprefix(text_of("act"))
            system = f"{text_of('whole_small')}{rest}"
            return Prompt(system, (Message("user", text),), max_tokens=most, vary=vain, block=block)
        return replace(prompt, narrowed=narrowed(prompt.tools, self.aim, view=view), vary=vain, max_tokens=most)

    async def remaining(self, talk: Conversation, sight: Sight, *, base: str | None) -> str:
        """The goal again, close to where the model answers, with what is known to be still to do."""
        past = past_of(talk)
        held = () if base is None else await self._held(sight, base=base)
        failed = [check for check in held if not check["passed"]]
        back = ["Your last change was taken back, since it did not help."] if past and takes_back(past[-1]) else []
        still = [f"Still to do: {'; '.join(str(check['seen']) for check in failed)}"] if failed else []
        if held and not failed and not fails(past):
            still = ["Nothing is known to be missing: finish, unless the goal asks for more."]
        return "\n".join([*back, f"Goal: {self.aim.goal}", *still])

    async def checked(self, finish: Finish, talk: Conversation, *, base: str | None) -> Finish:
        """`finish` with what the goal's own words ask for, and with the tests that the daemon has run.

        Words about tests that nobody ran are contradicted.
        """
        began, past = await self._first_texts(), past_of(talk)
        checks = list(aims.postconditions(self.aim, began, base=_tree(base)))
        command = self._proving.command(past, began)
        kind = self._proving.shall_pass(past)
        if command and kind and any(each.is_change for each in past):
            checks.append({"kind": kind, "command": command})
        answer = finish.answer
        if tells_of_tests(answer) and not any(each.use.name == "shell" and each.proves for each in past):
            answer = f"{answer}\n{NO_TEST}"
        checks = [one for one in checks if one not in finish.checks]
        return replace(finish, answer=answer, checks=(*finish.checks, *checks))

    async def _after_change(self, past: Sequence[Past], sight: Sight, *, base: str | None) -> ToolUse | None:
        """Where no test can tell: a rename is through when the old name is gone."""
        if usable(past) or not self._replaces or await self._places(sight):
            return None
        held = await self._held(sight, base=base)
        return self._finish(past) if held and all(check["passed"] for check in held) else None

    async def _astray(self, past: Sequence[Past], sight: Sight, *, base: str | None) -> ToolUse | None:
        """Takes back a change that does nothing of what is known to be missing, where no test fails: first that."""
        tests = tests_of(past)
        if self.aim.renaming is not None or (tests and not tests[0].proves):
            return None
        held, use = await self._held(sight, base=base), past[-1].use
        path, new = str(use.arguments.get("path")), str(use.arguments.get("new", use.arguments.get("content", "")))
        again = any(each.is_change and each.use.arguments.get("path") == path for each in past[:-1])
        missing = [check for check in held if not check["passed"]]
        if any(check["kind"] == "within" and check["path"] == path for check in missing):
            helps = False
        elif any(check["kind"] == "added" for check in missing):
            helps = any(str(check["text"]) in new for check in held if check["kind"] == "added")
        else:
            helps = not missing or any(check["passed"] and _serves(check, path, again=again) for check in held)
        return None if helps else await self._undoing(past)

    async def _after_tests(self, past: Sequence[Past], sight: Sight, *, base: str | None, name: str) -> ToolUse | None:
        """Stops on proof; takes back a change after which as much fails as before."""
        tests = tests_of(past)
        if not tests or tests[-1] is not past[-1]:
            return None
        first, last = tests[0], tests[-1]
        if last.proves:
            proven = not first.proves or (self._replaces and not await self._places(sight))
            held = await self._held(sight, base=base)
            through = proven and all(check["passed"] for check in held)
            return replace(self._finish(past), id=name) if through else None
        change = next((each for each in reversed(past) if each.is_change), None)
        if change is None or takes_back(change) or first.proves:
            return None
        before, prose = failures_before(past), aims.is_prose(str(change.use.arguments.get("path")))
        if last.failures < before or (last.failures == before and (prose or not self.aim.mends)):
            return None
        back = await self._undoing(past)
        return replace(back, id=f"{TAKES_BACK}{name}") if back else None

    async def _undoing(self, past: Sequence[Past]) -> ToolUse | None:
        began = await self._first_texts()
        path = next((str(each.use.arguments.get("path")) for each in reversed(past) if each.is_change), "")
        plain = path in began and "\ufffd" not in began[path] and not self._hidden.scrub(began[path]).found
        return undoing(past, {path: began[path]} if plain else {})

    def _finish(self, past: Sequence[Past]) -> ToolUse:
        paths = dict.fromkeys(str(each.use.arguments.get("path")) for each in past if each.is_change)
        tests = [each for each in tests_of(past) if each.proves]
        proof = f" `{tests[-1].use.arguments['command']}` passes." if tests else ""
        return ToolUse(OWN, "finish", {"answer": f"Done: {self.aim.goal} Changed: {', '.join(paths)}.{proof}"})

    async def _held(self, sight: Sight, *, base: str | None) -> tuple[JsonObject, ...]:
        began = await self._first_texts()
        return await evaluate(aims.postconditions(self.aim, began, base=_tree(base)), sight)

    async def _places(self, sight: Sight) -> tuple[tuple[str, str], ...]:
        """(path, line) of what a rename has still to change, or a new value may have."""
        pair = self.aim.renaming or self.aim.revaluing
        if pair is None:
            return ()
        word = re.compile(rf"(?<!\w){re.escape(pair[0])}(?!\w)")
        texts = await self._texts(sight.root)
        paths = [path for path in texts if not (aims.is_prose(path) if self.aim.renaming else aims.is_test(path))]
        if self.aim.renaming is None and not self.aim.in_code:
            paths = list(self.aim.named(paths)) or paths
        return tuple(
            (path, line)
            for path in paths
            for line in texts[path].split("\n")
            if word.search(line) and not self._hidden.scrub(line).found
        )

    @property
    def _replaces(self) -> bool:
        return self.aim.renaming is not None or self.aim.revaluing is not None

    async def _view(self, talk: Conversation, sight: Sight, *, base: str | None) -> tuple[View, tuple[str, str] | None]:
        """What the run has before it; and (path, request) of a file to be written whole now, if there is one."""
        past, texts = past_of(talk), await self._texts(sight.root)
        whole = {path for path in texts if any(shows_whole(each, path) for each in past)}
        made = {str(each.use.arguments.get("path")) for each in past if each.is_change}
        seen = {str(each.use.arguments.get("path")) for each in past if not each.error and each.use.name == "read"}
        places = await self._places(sight)
        known = whole | made | seen | {path for path, _ in places}
        last = max((at for at, each in enumerate(past) if each.is_change and not each.own), default=-1)
        turns = sum(not each.own for each in past)
        held = await self._held(sight, base=base) if last >= 0 and self.aim.is_change else ()
        missing = not all(check["passed"] for check in held)
        broken = self._proving.breaks(past)
        left = missing or broken or (bool(places) and self.aim.renaming is not None)
        may_finish = not self.aim.is_change or turns >= GIVE_UP_TURNS or (last >= 0 and not left)
        view = View(
            known={path: self._hidden.scrub(texts[path]).text for path in texts if path in known},
            unseen=[path for path in texts if texts[path].strip() and path not in whole and path not in made],
            tried=in_vain(past),
            places=places,
            written=str(past[last].use.arguments.get("new", "")) if missing and last == len(past) - 1 else "",
            may_finish=may_finish,
            tests_itself=usable(past),
        )
        wanted = self.aim.is_change and not self._replaces and (not may_finish or (self.aim.mends and fails(past)))
        if not wanted or self.aim.moves or turns >= GIVE_UP_TURNS:
            return view, None
        new = await asyncio.to_thread(self._new_file, texts, sight.root)
        # Not what holds a secret, or no UTF-8: a file written from what stands for it would be spoilt.
        plain = {path: text for path, text in view.known.items() if path in whole and text == texts[path]}
        shown = {path: text for path, text in plain.items() if "\ufffd" not in text}
        return view, self._rewriting(past, shown, new=new, held=held)

    def _rewriting(
        self, past: Sequence[Past], texts: Mapping[str, str], *, new: str, held: Sequence[JsonObject]
    ) -> tuple[str, str] | None:
        """`texts` are the files that the run has read whole and that may be shown; `new` is one to be made."""
        failed = [check for check in held if not check["passed"]]
        missing = [str(check["path"]) for check in failed if check["kind"] == "changed" and check.get("path")]
        missing = [path for path in dict.fromkeys([new, *missing]) if path and (path == new or path in texts)]
        tries = sum(use.name == "write" for use in in_vain(past))
        path = target(self.aim, texts, missing=missing, tries=tries)
        if not path:
            return None
        still = "; ".join(str(check["seen"]) for check in failed if check["kind"] != "changed" or check.get("where"))
        return path, request(self.aim, texts, path=path, output=failing(past), still=still)

    async def _first_texts(self) -> Mapping[str, str]:
        """The files as the owner has them: a restart finds the same, whatever the run has changed in its checkout."""
        if self._began is None:
            self._began = await self._texts(self._workspace)
        return self._began

    async def _texts(self, root: Path) -> Mapping[str, str]:
        return await asyncio.to_thread(self._read, root)

    def _new_file(self, texts: Mapping[str, str], root: Path) -> str:
        """The file to be made; not one that is only too long, or too secret, to be among `texts`."""
        path = self.aim.new_file(tuple(texts))
        try:
            return "" if path and self._files.digest(root, path) is not None else path
        except ToolError:
            return ""

    def _read(self, root: Path) -> Mapping[str, str]:
        """The text files of the workspace, small ones only, without those that may hold secrets."""
        found: dict[str, str] = {}
        room = ALL_BYTES
        for path, size, _ in self._files.walk(root, FILES_MOST):
            if size > min(FILE_BYTES, room) or matches(path, self._hidden.paths):
                continue
            room -= size
            try:
                data = self._files.read(root, path, limit=FILE_BYTES)
            except ToolError:
                continue  # it went away meanwhile
            if b"\0" not in data and path.isprintable():
                found[path] = data.decode("utf-8", "replace")
        return dict(sorted(found.items()))


def _keeping(note: str, past: Sequence[Past]) -> ToolUse:
    """Keeps what the owner said in his own words; a small model, which has no tool for it, would write it to a file."""
    text = note[0].upper() + note[1:]
    if kept := next((each for each in past if each.use.name == "remember"), None):
        return ToolUse(OWN, "finish", {"answer": "Not remembered." if kept.error else f"{text}\n{kept.text}"})
    kind = Kind.FEEDBACK if orders(note) else Kind.PROJECT
    return ToolUse(OWN, "remember", {"text": text, "kind": kind.value})


def _lead(aim: Aim, texts: Mapping[str, str]) -> list[ToolUse]:
    """What is read first: all where all is little, else what has most to do with the goal, as far as there is room."""
    full = {path: text for path, text in texts.items() if text.strip()}
    order = aims.ranked(aim, full)
    if named := aim.named(tuple(full)):
        # What is named, what that imports, and the likeliest: anything else is one more thing to get wrong.
        order = tuple(dict.fromkeys([*named, *imported(named, full), *order[:LIKELIEST]]))
    elif _size(full) <= LEAD_CHARS:
        order = (*order, *(path for path in full if path not in order))
    found, room = list[ToolUse](), LEAD_CHARS
    for path in order:
        text, arguments = full[path], dict[str, object](path=path)
        if len(text) > room and found:
            continue
        if len(text) > LEAD_CHARS:
            arguments |= {"from_line": _best_line(aim, text), "lines": WINDOW_LINES}
        room -= min(len(text), LEAD_CHARS)
        found.append(ToolUse(OWN, "read", arguments))  # type: ignore[arg-type]
    return found[:LEAD_FILES][::-1]  # what matters most is nearest to the answer


def _tree(base: str | None) -> str | None:
    return EMPTY_TREE if base == "" else base


def _size(texts: Mapping[str, str]) -> int:
    return sum(map(len, texts.values())) + 40 * len(texts)


def _best_line(aim: Aim, text: str) -> int:
    """Where a window has to begin to show the line that shares most words with the goal."""
    words = aim.words()
    scores = [sum(word in line.lower() for word in words) for line in text.split("\n")]
    return max(1, scores.index(max(scores)) - WINDOW_LINES // 3)


def _serves(check: JsonObject, path: str, *, again: bool) -> bool:
    """Whether a change of `path` did what `check` asks for; `again` if it was changed before."""
    if check.get("where"):
        return not aims.is_prose(path)
    return check.get("path") == path and not again
