"""Words and operators of a plain shell line, read as bash reads them; whatever bash would expand is refused."""

from __future__ import annotations

import re
from enum import Enum, auto

from kairosd.core.shell import refusals
from kairosd.core.shell.refusals import NotPlain
from kairosd.frozen import frozen


class Kind(Enum):
    """What a token is to the grammar."""

    WORD = auto()
    CONTROL = auto()  # && || ; | |& and newline
    REDIRECT = auto()  # with the digit in front of it
    COMMENT = auto()


@frozen
class Token:
    """`line[start:end]`; `text` is the decoded word, or the operator without blanks."""

    kind: Kind
    text: str
    start: int
    end: int


# bash's metacharacters, quoting and expansion characters end a run; everything else stands for itself.
_RUN = re.compile(r"[^ \t\n|&;()<>'\"\\$`*?\[{}~!=#]+")
_BLANKS = re.compile(r"[ \t]+")
_COMMENT = re.compile(r"#[^\n]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE_RUN = re.compile(r'[^"\\$`]+')
_CONTROL = re.compile(r"&&|\|\||\|&|[|;\n]")
_REDIRECT = re.compile(r"[0-9]*(?:<<<|<<-?|<>|<&|<\(|<|>>|>\||>&|>\(|>)|&>>|&>")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(?:\[[^\]]*\])?\+?=", re.ASCII)
_ENDS = frozenset(" \t\n|&;()<>")
_COMPARISONS = frozenset({"=", "=="})
# After these a `$` stands for itself: no name, parameter, brace, parenthesis or quote begins there.
_LITERAL_AFTER = frozenset(["", *" \t\n|;&/.,:%)"])
_LITERAL_AFTER_QUOTED = _LITERAL_AFTER | {'"', "\\"}


def read_tokens(line: str) -> list[Token]:
    """The tokens of a line without NUL, CR or line continuation. Raises `NotPlain` for what is not plain."""
    return _Reader(line).tokens()


class _Reader:
    def __init__(self, line: str) -> None:
        self._line = line
        self._at = 0
        self._tokens: list[Token] = []
        self._head: int | None = None  # where the current command's name begins; None = it is still to come
        self._before: list[str] = []  # the current command's words
        self._target = False  # the next word belongs to a redirect

    def tokens(self) -> list[Token]:
        line = self._line
        while self._at < len(line):
            char = line[self._at]
            if char in " \t":
                self._at = _end(_BLANKS.match(line, self._at))
            elif char == "#":
                self._add(Kind.COMMENT, _end(_COMMENT.match(line, self._at)))
            elif char in "|&;\n()":
                self._operator()
            elif char in "<>":
                self._redirect(_REDIRECT.match(line, self._at))
            else:
                self._word_or_number()
        return self._tokens

    def _add(self, kind: Kind, end: int, *, text: str | None = None) -> None:
        self._tokens.append(Token(kind, self._line[self._at : end] if text is None else text, self._at, end))
        self._at = end

    def _operator(self) -> None:
        line, at = self._line, self._at
        if line[at] in "()":
            raise refusals.parenthesis(line, at=at, first=self._head is None, named=len(self._before) == 1)
        if line.startswith("&>", at):
            self._redirect(_REDIRECT.match(line, at))
            return
        found = _CONTROL.match(line, at)
        if found is None:
            if not self._before:
                raise NotPlain("a command is missing in front of `&`")
            raise refusals.background(line, at=at)
        if line.startswith((";;", ";&"), at):
            raise NotPlain(f"`{line[at : at + 2]}` outside a case", advice="join commands with one ;")
        self._add(Kind.CONTROL, found.end())
        self._head, self._before, self._target = None, [], False

    def _redirect(self, found: re.Match[str] | None) -> None:
        if found is None:
            raise NotPlain("the line cannot be read")
        here_document = "<<" in found[0] and "<<<" not in found[0]  # its text is no part of the line
        if found[0].endswith("(") or here_document:
            raise refusals.redirect(found[0])
        if self._target:
            raise NotPlain("a redirect without its file")
        self._add(Kind.REDIRECT, found.end())
        self._target = True

    def _word_or_number(self) -> None:
        if self._line[self._at] in "0123456789":
            found = _REDIRECT.match(self._line, self._at)
            if found:
                self._redirect(found)
                return
        word = _Word(self._line, self._at)
        word.read()
        if word.braced and self._line[word.end : word.end + 1] in ("<", ">"):
            raise NotPlain("a redirect with a variable as its number", advice="leave the redirect out")
        if self._target:
            self._target = False
            self._check(word)
        elif self._head is None:
            self._head = word.start
            self._check_first(word)
            self._before.append(word.text)
        else:
            self._check(word)
            self._before.append(word.text)
        self._add(Kind.WORD, word.end, text=word.text)

    def _check_first(self, word: _Word) -> None:
        raw = self._line[word.start : word.end]
        if self._line.startswith("()", word.end):
            raise refusals.parenthesis(self._line, at=word.end, first=False, named=True)
        if _ASSIGNMENT.match(raw):
            raise refusals.assignment(self._line, start=word.start, end=word.end)
        spelt = not (word.globbed or word.braced) or word.text in refusals.RESERVED or word.text.startswith("%")
        if word.text != "cd" and spelt:
            refusals.refuse_name(word.text, line=self._line, start=word.start)
        if raw != "[":
            self._check(word)

    def _check(self, word: _Word) -> None:
        line, start, end = self._line, word.start, word.end
        if word.globbed:
            head = start if self._head is None else self._head
            raise refusals.glob(line, start=start, end=end, before=tuple(self._before), head=head)
        if word.braced and ("," in word.text or ".." in word.text):
            raise refusals.braces(line, start=start, end=end)
        if word.tilde:
            raise refusals.tilde()
        if word.banged:
            raise refusals.needs_quotes(line, what="`!`", start=start, end=end)
        if line[start] == "=" and word.text not in _COMPARISONS:
            raise refusals.needs_quotes(line, what="a word that begins with `=`", start=start, end=end)


class _Word:
    """One word from `start` on: its decoded text, and which special characters stand in it unquoted."""

    def __init__(self, line: str, start: int) -> None:
        self._line = line
        self.start = start
        self.end = start
        self._pieces: list[str] = []
        self._last = ""  # the last decoded character
        self.globbed = False
        self.braced = False
        self.tilde = False
        self.banged = False

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def read(self) -> None:
        line = self._line
        while self.end < len(line) and line[self.end] not in _ENDS:
            run = _RUN.match(line, self.end)
            if run:
                self._take(run[0], run.end())
            else:
                self._special(line[self.end])

    def _take(self, piece: str, end: int) -> None:
        self._pieces.append(piece)
        self._last = piece[-1:] or self._last
        self.end = end

    def _special(self, char: str) -> None:
        at = self.end
        if char == "'":
            found = _SINGLE.match(self._line, at)
            if found is None:
                raise NotPlain("a ' without its partner", advice=r"close the quote; \' is a ' outside quotes")
            self._take(found[1], found.end())
        elif char == '"':
            self._double()
        elif char == "\\":
            if at + 1 == len(self._line):
                raise NotPlain("a backslash at the end", advice="leave it out")
            self._take(self._line[at + 1], at + 2)
        elif char == "$":
            self._dollar(_LITERAL_AFTER)
        elif char == "`":
            raise refusals.backticks(self._line, at=at)
        else:
            self._mark(char)
            self._take(char, at + 1)

    def _mark(self, char: str) -> None:
        if char in "*?[":
            self.globbed = True
        elif char in "{}":
            self.braced = True
        elif char == "~":
            self.tilde = self.tilde or self._last in ("", "=", ":")
        elif char == "!":
            following = self._line[self.end + 1 : self.end + 2]
            self.banged = self.banged or not (following == "" or following in _ENDS or following == "=")

    def _dollar(self, literal_after: frozenset[str]) -> None:
        at = self.end
        if self._line[at + 1 : at + 2] not in literal_after:
            raise refusals.expansion(self._line, at=at)
        self._take("$", at + 1)

    def _double(self) -> None:
        line = self._line
        self.end += 1
        while self.end < len(line):
            run = _DOUBLE_RUN.match(line, self.end)
            if run:
                self._take(run[0], run.end())
                continue
            char = line[self.end]
            if char == '"':
                self.end += 1
                return
            if char == "\\":
                escaped = line[self.end + 1 : self.end + 2]
                kept = escaped if escaped and escaped in '$`"\\' else char + escaped
                self._take(kept, self.end + 2)
            elif char == "$":
                self._dollar(_LITERAL_AFTER_QUOTED)
            else:
                raise refusals.backticks(line, at=self.end)
        raise NotPlain('a " without its partner', advice="close the quote, or use '...' around a \"")


def _end(found: re.Match[str] | None) -> int:
    if found is None:
        raise NotPlain("the line cannot be read")
    return found.end()
