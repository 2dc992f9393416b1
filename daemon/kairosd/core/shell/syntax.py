"""Shell lines and argvs read into plans. Two readings have to agree: our own tokens and tree-sitter's tree.

The tokens decode the words, for no tree tells what a quote or a backslash comes to. The tree knows all of bash: a
node that is not on the white-list, an error, or a token that begins or ends elsewhere refuses the line (design §9).
"""

from __future__ import annotations

import functools
import itertools
import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import tree_sitter_bash
from tree_sitter import Language, Node, Parser, Tree

from kairosd.core.shell import refusals
from kairosd.core.shell.characters import check_characters
from kairosd.core.shell.plans import Command, Operator, Pipeline, Plan, Stream
from kairosd.core.shell.refusals import NotPlain
from kairosd.core.shell.words import Kind, Token, read_tokens
from kairosd.errors import ShellFormError

MAX_COMMANDS = 20  # of one line (design §9)
_REWRITES = 8  # how many steps are tried on the way to a plain line
_NULL = "/dev/null"
_TYPISTS = (["echo"], ["printf"])  # what they print is in their words
_CONTINUATION = "\\\n"
_DEVICE = re.compile(r"/+dev/+(?!null$)")

_BRANCHES = frozenset(
    {"program", "list", "pipeline", "command", "command_name", "redirected_statement", "file_redirect"}
    | {"concatenation", "string", "test_command", "unary_expression", "binary_expression"}
)
_WORD_LEAVES = frozenset(
    {"word", "number", "raw_string", "string_content", '"', "$", "[", "]", "=", "==", "!=", "!", "test_operator"}
    | {"extglob_pattern"}  # its name for any word after `=` in a test
)
_LEAVES = {
    Kind.WORD: _WORD_LEAVES,
    Kind.CONTROL: frozenset({"&&", "||", ";", "|", "|&", "\n"}),
    Kind.REDIRECT: frozenset({"file_descriptor", "number", ">", "<", "&>", ">&"}),
    Kind.COMMENT: frozenset({"comment"}),
}
_OPERATORS = {"&&": Operator.AND, "||": Operator.OR, ";": Operator.THEN, "\n": Operator.THEN}


def read_line(line: str) -> Plan:
    """What a line comes to when only plain commands are in it, joined by `&& || ; |` or newlines.

    Words are decoded as bash 5 decodes them; comments are dropped. A `cd` that fails is meant to end the line: every
    pipeline behind it was judged in the folder it leads to. Raises `ShellFormError` with the rule that was broken;
    `fix` says how else to write it, and after "run: " gives the line itself where there is one.
    """
    try:
        return _read(line)
    except NotPlain as refusal:
        advice, plain = refusal.fix or "", _plain_rewrite(refusal.line)
        steps = ([advice] if advice else []) + ([f"run: {plain.strip()}"] if plain else [])
        raise ShellFormError(refusal.message, fix="; ".join(steps) or None) from None


def plan_of(argv: Sequence[str]) -> Plan:
    """The plan of one program with these exact words; a newline in a word is fine. Raises `ShellFormError`."""
    if not argv:
        raise ShellFormError("there is no command", fix="give the program and its arguments")
    check_characters("\n".join(argv))
    refusals.refuse_name(argv[0])
    return Plan((Pipeline((Command(tuple(argv)),)),))


def _plain_rewrite(line: str) -> str:
    for _ in range(_REWRITES):
        if not line:
            return ""
        try:
            _read(line)
        except NotPlain as refusal:
            line = refusal.line
        except ShellFormError:
            return ""
        else:
            return line
    return ""


def _read(line: str) -> Plan:
    check_characters(line)
    if _CONTINUATION in line:
        simple = "'" not in line and "#" not in line and "\\\\\n" not in line
        joined = line.replace(_CONTINUATION, "") if simple else ""
        raise NotPlain("a line continued with a backslash", advice="write it on one line", line=joined)
    tokens = read_tokens(line)
    drafts = _drafts(tokens)
    count = sum(len(draft.commands) for draft in drafts)
    if count > MAX_COMMANDS:
        raise NotPlain(f"more than {MAX_COMMANDS} commands", advice="make several calls")
    plan = Plan(tuple(_placed(drafts, line=line)))
    if not _agrees(line, tokens, count=count):
        advice = "quote words with special characters in '...'"
        raise NotPlain("the line can be read in two ways", advice=advice, line=_requoted(line, tokens))
    return plan


def _requoted(line: str, tokens: Sequence[Token]) -> str:
    pieces, at = [], 0
    for token in tokens:
        quoted = shlex.quote(token.text) if token.kind is Kind.WORD else line[token.start : token.end]
        pieces += [line[at : token.start], quoted]
        at = token.end
    requoted = "".join(pieces)
    return requoted if requoted != line else ""


# Tokens -> pipelines


@dataclass(slots=True)
class _Draft:
    """A pipeline while it is read: the tokens of its commands, and the operator in front of it."""

    operator: Operator = Operator.FIRST
    joint: Token | None = None
    commands: list[list[Token]] = field(default_factory=lambda: [[]])


def _drafts(tokens: Sequence[Token]) -> list[_Draft]:
    drafts: list[_Draft] = [_Draft()]
    for token in tokens:
        last = drafts[-1].commands[-1]
        if token.kind is Kind.COMMENT or (token.text == "\n" and token.kind is Kind.CONTROL and not last):
            continue
        if token.kind is not Kind.CONTROL:
            last.append(token)
        elif not last:
            raise NotPlain(f"a command is missing in front of `{token.text}`")
        elif token.text in ("|", "|&"):
            if token.text == "|&":
                last.append(replace(token, kind=Kind.REDIRECT))
            drafts[-1].commands.append([])
        else:
            drafts.append(_Draft(_OPERATORS[token.text], token))
    return _finished(drafts)


def _finished(drafts: list[_Draft]) -> list[_Draft]:
    last = drafts[-1]
    if not last.commands[-1]:
        if len(last.commands) > 1 or last.operator in (Operator.AND, Operator.OR):
            raise NotPlain("a command is missing at the end")
        drafts.pop()
    if not drafts:
        raise NotPlain("there is no command")
    return drafts


def _command(tokens: Sequence[Token], *, line: str) -> Command:
    argv: list[str] = []
    streams = _Streams()
    rest = iter(tokens)
    for token in rest:
        if token.kind is Kind.WORD:
            argv.append(token.text)
        elif token.text == "|&":
            streams.send("2", ">&", target="1")
        else:
            target = next(rest, None)
            _check_target(token, target, line=line, written=argv[:1] in _TYPISTS)
            streams.redirect(token.text, target)
    if not argv:
        raise NotPlain("a redirect without a command", advice="write files with the tool write")
    return Command(tuple(argv), stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr)


def _check_target(operator: Token, target: Token | None, *, line: str, written: bool) -> None:
    """Output goes to /dev/null, or to no file."""
    redirects = operator.text.lstrip("0123456789") in (">", ">>", ">|", "&>", "&>>")
    if redirects and target is not None and target.kind is Kind.WORD and target.text not in ("", _NULL):
        without = line[: operator.start].rstrip(" \t") + line[target.end :]
        raise refusals.to_file(operator.text, line=without, written=written)


class _Streams:
    """Redirects of one command, followed from left to right as a shell does it."""

    def __init__(self) -> None:
        self.stdin = ""
        self._seen: set[str] = set()
        self._goes = {"1": "1", "2": "2"}  # to which of the command's own outputs, or to /dev/null

    @property
    def stdout(self) -> Stream:
        return {"1": Stream.OWN, "2": Stream.STDERR, _NULL: Stream.NULL}[self._goes["1"]]

    @property
    def stderr(self) -> Stream:
        return {"1": Stream.STDOUT, "2": Stream.OWN, _NULL: Stream.NULL}[self._goes["2"]]

    def redirect(self, operator: str, target: Token | None) -> None:
        if operator.lstrip("0123456789&") not in ("<", ">", ">&"):
            raise refusals.redirect(operator)
        if target is None or target.kind is not Kind.WORD or not target.text:
            raise NotPlain("a redirect without its file")
        if operator in ("<", "0<"):
            self._once("0")
            if _DEVICE.match(target.text):
                raise NotPlain(f"`{target.text}` is no file", advice="name a file of the workspace")
            self.stdin = target.text
        else:
            self.send(operator.rstrip(">&"), operator.lstrip("0123456789"), target=target.text)

    def send(self, number: str, operator: str, *, target: str) -> None:
        whole = f"{number}{operator}{target}"
        if operator == "&>":
            self._once("1", "2")
            self._goes = {"1": _NULL, "2": _NULL}
        elif operator == ">" and number in ("", "1", "2"):
            self._once(number or "1")
            self._goes[number or "1"] = _NULL
        elif whole in ("2>&1", "1>&2", ">&2"):
            self._once(number or "1")
            self._goes[number or "1"] = self._goes[target]
        else:
            raise refusals.redirect(whole)

    def _once(self, *numbers: str) -> None:
        if not self._seen.isdisjoint(numbers):
            raise NotPlain("a stream is redirected twice", advice="keep one redirect of it")
        self._seen.update(numbers)


# Folders


def _placed(drafts: Sequence[_Draft], *, line: str) -> Iterator[Pipeline]:
    cwd = "."
    certain, moved, doubtful = True, False, False  # of this chain of && and ||: only cd so far; a cd; a cd after others
    for draft, following in itertools.zip_longest(drafts, drafts[1:]):
        commands = tuple(_command(tokens, line=line) for tokens in draft.commands)
        if draft.operator in (Operator.FIRST, Operator.THEN):
            certain, moved = True, False
        if doubtful and draft.operator is Operator.THEN:
            raise NotPlain("whether cd happened is not certain", advice="begin the line with cd DIR && ...")
        if moved and draft.operator is Operator.OR:
            advice = "write cd DIR && COMMAND in a call of its own"
            raise NotPlain("after `||` the folder is not certain", advice=advice)
        _check_git(commands, cwd=cwd)
        yield Pipeline(commands, draft.operator, cwd)
        if all(command.argv[0] != "cd" for command in commands):
            certain = False
            continue
        cwd, moved, doubtful = _entered(cwd, commands), True, not certain
        if draft.operator is Operator.OR:
            raise NotPlain("whether cd happens is not certain", advice="begin the line with cd DIR && ...")
        if following and following.joint and following.operator is Operator.THEN and certain:
            end, rest = draft.commands[-1][-1].end, line[following.joint.end :]
            joined = f"{line[:end]} && {rest.lstrip()}"
            raise NotPlain("a cd that fails would not stop what follows", advice="join them with &&", line=joined)


def _entered(cwd: str, commands: Sequence[Command]) -> str:
    """The folder after a `cd`: relative to the root if it can be, else as given, for the judge of paths to refuse."""
    operands = commands[0].argv[1:]
    if len(commands) > 1:
        raise NotPlain("a cd in a pipe changes nothing", advice="write cd DIR && COMMAND")
    if len(operands) != 1 or operands[0][:1] in ("", "-") or commands[0].stdin:
        raise NotPlain("cd takes one folder and no options", advice="write cd DIR && COMMAND")
    return posixpath.normpath(posixpath.join(cwd, operands[0]))


def _check_git(commands: Sequence[Command], *, cwd: str) -> None:
    """A repository below the root could bring a configuration of its own; an absolute folder is for the judge."""
    for command in commands:
        if cwd != "." and not cwd.startswith("/") and posixpath.basename(command.argv[0]) == "git":
            plain = all(word.startswith("-") for word in command.argv[2:]) and len(commands) == 1
            rewritten = Plan((Pipeline((command,)),)).text() if plain else ""
            advice = "leave cd out and write paths from the workspace's root"
            raise NotPlain("git runs at the workspace's root only", advice=advice, line=rewritten)


# The second reading


@functools.cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bash.language()))


def _agrees(line: str, tokens: Sequence[Token], *, count: int) -> bool:
    """Whether tree-sitter sees these tokens, each by itself and all of them, and as many commands."""
    tree = _parser().parse(line.encode())
    if tree.root_node.has_error:
        return False
    leaves: list[Node] = []
    commands = 0
    for node in _nodes(tree):
        if node.child_count == 0 and node.type != "program":
            leaves.append(node)
        elif node.type not in _BRANCHES:
            return False
        commands += node.type in ("command", "test_command")
    return commands == count and _covered(line, tokens, leaves=leaves)


def _nodes(tree: Tree) -> Iterator[Node]:
    cursor = tree.walk()
    while True:
        if cursor.node is not None:
            yield cursor.node
        if cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def _covered(line: str, tokens: Sequence[Token], *, leaves: Sequence[Node]) -> bool:
    """Whether the leaves are of a kind that fits their token and leave nothing of it out but blanks in quotes."""
    place = _byte_places(line)
    source = line.encode()
    rest = iter(leaves)
    leaf = next(rest, None)
    for token in tokens:
        at, end = place[token.start], place[token.end]
        while leaf is not None and leaf.start_byte < end:
            fits = leaf.type in _LEAVES[token.kind] and leaf.start_byte >= at and leaf.end_byte <= end
            if not fits or (token.kind is Kind.CONTROL and leaf.type != token.text) or leaf.is_missing:
                return False
            if source[at : leaf.start_byte].strip(b" \t\n"):
                return False
            at = leaf.end_byte
            leaf = next(rest, None)
        if source[at:end].strip(b" \t\n"):
            return False
    return leaf is None


def _byte_places(line: str) -> Sequence[int]:
    if line.isascii():
        return range(len(line) + 1)
    return list(itertools.accumulate((len(char.encode()) for char in line), initial=0))
