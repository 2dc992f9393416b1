"""Programs: what each option and operand of a known program does, as its file in `kairosd/programs/` says."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from enum import StrEnum

from kairosd.core.shell import tables
from kairosd.core.shell.operands import KINDS, Findings
from kairosd.core.shell.plans import Command
from kairosd.frozen import frozen

# Where the sandbox looks for programs; nothing in a workspace can lie there.
SYSTEM_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin")
_NUMBER = re.compile(r"-\d+")


class ProgramClass(StrEnum):
    """What a program can do at worst; the order is that of the levels that cover it (design §9)."""

    READER = "reader"  # reads the workspace and prints
    CONFINED = "confined"  # runs the workspace's own code; the sandbox alone bounds it
    EFFECT = "effect"  # changes files on purpose, or what other programs see


@frozen
class Use:
    """One command as its program's file reads it. Paths are as given: relative to the command's own folder.

    `problem` says why it is not within what the file allows ("" = it is) and `fix` what would be, or what to do where
    the level does not cover it; `opaque` marks a program that starts whatever its arguments say, which no list can
    allow. `listed` is False for a program that is named by a path no owner has named; `starts` are further programs
    that it starts by name (`python -m pytest`).
    """

    program: str
    kind: ProgramClass
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()  # files whose content decides what happens: an approval is bound to it
    problem: str = ""
    fix: str = ""
    opaque: bool = False
    listed: bool = True
    starts: tuple[str, ...] = ()
    borrowed: bool = False  # named like a program of the system's, but it is the workspace that brings it along


@frozen
class Program:
    """One program's file (its keys are the fields below, `class` is `kind`): what is not in it is not allowed.

    The kinds of operands and values are those of `operands.KINDS`. Options stand as the program writes them; an
    abbreviation is not on the list, even where the program would take it.
    """

    name: str
    kind: ProgramClass
    flags: frozenset[str] = frozenset()  # options without a value
    values: Mapping[str, str] = field(default_factory=dict)  # option -> kind of its value, attached or the next word
    attached: Mapping[str, str] = field(default_factory=dict)  # option -> kind of a value that can only be attached
    words: bool = False  # options are whole words, as find's: no bundles, and `--` is not special
    numbers: bool = False  # `-5` is an option
    stops: bool = False  # options end at the first operand
    literal: bool = False  # a word that looks like an option and is none is an operand
    operands: tuple[str, ...] = ()  # kinds of the first operands
    rest: str = ""  # kind of those that follow; "" = none may
    last: str = ""  # kind of the last operand, when there is more than one
    after: str = ""  # kind of what follows `--`; "" = as before it
    instead: frozenset[str] = frozenset()  # options that take the place of the first operand
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # option ("*" = always) -> what must go with it
    excused: frozenset[str] = frozenset()  # options that lift needs["*"]
    effect_with: frozenset[str] = frozenset()  # options that make it an effect
    effect_without: frozenset[str] = frozenset()  # it is an effect unless one of these is given
    opaque_with: frozenset[str] = frozenset()  # options that start what follows them
    otherwise: str = ""  # "opaque": with any other option it runs what its arguments say
    opaque: bool = False
    scripts: tuple[str, ...] = ()  # files it reads unasked and obeys
    reads_as: str = ""  # the program whose file reads the words after this verb
    fixes: Mapping[str, str] = field(default_factory=dict)  # option, verb or its own name -> what to do instead
    verbs: Mapping[str, Program] = field(default_factory=dict)


_KEYS = {each.name for each in fields(Program)} - {"name", "kind"} | {"class"}


def parse_program(name: str, table: Mapping[str, object]) -> Program:
    """The program of a TOML table. Raises `ValueError` that names the key which is wrong."""
    try:
        return _parsed(name, table, kind=None)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def read_use(command: Command, programs: Mapping[str, Program], *, bins: Sequence[str] = ()) -> Use | None:
    """How the program would read this command; None for a bare name that has no file.

    `bins` are the folders, relative to the workspace, whose programs the owner vouches for.
    """
    word = command.argv[0]
    name = _program_name(word, bins)
    if not name:
        problem = f"{word} is not in a folder of the system's, nor in one that the workspace's `bin` names"
        fix = "name the program alone (pytest), or the interpreter of a script (python FILE)"
        return Use(word, ProgramClass.CONFINED, scripts=(word,), problem=problem, fix=fix, listed=False)
    program = programs.get(name)
    if program is None:
        return None
    found = Findings()
    used, starts = _read(program, command.argv[1:], programs=programs, found=found)
    if used.opaque or found.opaque:
        found.scripts += [each for each in command.argv[1:] if _could_be_file(each)]
    writes, reads = tuple(dict.fromkeys(found.writes)), tuple(dict.fromkeys(found.reads))
    kind = _kind(used, found)
    borrowed = kind is ProgramClass.READER and "/" in word and not word.startswith("/")
    return Use(
        program=name,
        kind=ProgramClass.CONFINED if borrowed else kind,  # whatever it is called, it is the workspace's code
        reads=reads,
        writes=writes,
        scripts=tuple(dict.fromkeys(found.scripts)),
        problem=found.problem,
        fix=found.fix if found.problem and not used.opaque else _advice(used) or _advice(program),
        opaque=used.opaque or found.opaque,
        starts=starts,
        borrowed=borrowed,
    )


def _advice(program: Program) -> str:
    """What to do instead of the whole program, or verb."""
    return program.fixes.get(program.name, "")


def _program_name(word: str, bins: Sequence[str]) -> str:
    """The name under which the program is listed; "" for one in a folder that nobody vouches for."""
    if "/" not in word:
        return word
    folder, name = posixpath.split(word)
    own = not word.startswith("/") and ".." not in word.split("/")
    if folder in SYSTEM_FOLDERS or (own and posixpath.normpath(folder) in {posixpath.normpath(each) for each in bins}):
        return name
    return ""


def _could_be_file(word: str) -> bool:
    return not word.startswith("-") and word.isprintable() and " " not in word and len(word) < 256


def _kind(program: Program, found: Findings) -> ProgramClass:
    wanted = program.effect_without
    if program.effect_with & found.given or (wanted and not wanted & found.given):
        return ProgramClass.EFFECT
    writes = any(path != "/dev/null" for path in found.writes)
    return ProgramClass.EFFECT if writes and program.kind is ProgramClass.READER else program.kind


def _read(
    program: Program, words: Sequence[str], *, programs: Mapping[str, Program], found: Findings
) -> tuple[Program, tuple[str, ...]]:
    """Reads `words` into `found`; the table that decided (a verb's, or another program's), and what it starts."""
    found.scripts += program.scripts
    if program.opaque:
        found.object_to(f"{program.name} runs what its arguments say")
        return program, ()
    index = _verb_at(program, words) if program.verbs else 0
    for length in (3, 2, 1):
        verb = program.verbs.get(" ".join(words[index : index + length]))
        if verb is None or len(words) - index < length:
            continue
        rest = words[index + length :]
        if not verb.reads_as:
            return _read(verb, rest, programs=programs, found=found)
        used, started = _read(programs[verb.reads_as], rest, programs=programs, found=found)
        return used, (verb.reads_as, *started)
    if program.verbs and words[index:] and not (program.rest or program.operands):
        word = words[index]
        found.object_to(f"{program.name} {word} is not on the list", fix=program.fixes.get(word, ""))
    _Reading(program, words, found=found).run()
    return program, ()


def _verb_at(program: Program, words: Sequence[str]) -> int:
    """Where the verb stands: after flags that may come before it, unless they are a verb themselves."""
    starts = {key.split()[0] for key in program.verbs}
    return next((at for at, word in enumerate(words) if word in starts or word not in program.flags), len(words))


class _Reading:
    """One pass over the words after the program's (or verb's) name."""

    def __init__(self, program: Program, words: Sequence[str], *, found: Findings) -> None:
        self._program = program
        self._words = list(words)
        self._found = found
        self._operands: list[str] = []
        self._trailing: list[str] = []

    def run(self) -> None:
        while self._words:
            word = self._words.pop(0)
            if word == "--" and not self._program.words and not self._program.literal:
                (self._trailing if self._program.after else self._operands).extend(self._words)
                break
            if not self._option(word):
                self._operands.append(word)
                if self._program.stops:
                    self._operands.extend(self._words)
                    break
        self._take_operands()
        self._check_needs()

    def _option(self, word: str) -> bool:
        """Whether `word` is an option; it has then been noted, with its value."""
        program, found = self._program, self._found
        if word in program.flags:
            found.given.add(word)
            return True
        if not word.startswith("-") or word == "-":
            return False
        if program.numbers and _NUMBER.fullmatch(word):
            return True
        known = self._long(word) if program.words or word.startswith("--") else self._bundle(word)
        if known or program.literal:
            return known
        self._object(word)
        return True

    def _long(self, word: str) -> bool:
        name, equals, value = word.partition("=")
        kind = self._program.values.get(name) or self._program.attached.get(name)
        if kind is None:
            return False
        self._found.given.add(name)
        if equals:
            self._found.take(kind, value)
        elif name in self._program.values:
            self._next(name)
        return True

    def _bundle(self, word: str) -> bool:
        for at, letter in enumerate(word[1:], start=2):
            option = f"-{letter}"
            if self._program.numbers and letter in "0123456789":
                continue  # `-n5`: the digits are the number wherever they stand
            if option in self._program.flags:
                self._found.given.add(option)
                continue
            kind = self._program.values.get(option) or self._program.attached.get(option)
            if kind is None:
                return False
            self._found.given.add(option)
            if word[at:]:
                self._found.take(kind, word[at:])
            elif option in self._program.values:
                self._next(option)
            return True
        return True

    def _next(self, option: str) -> None:
        if not self._words:
            self._found.object_to(f"{self._program.name} {option} lacks its value")
        else:
            self._found.take(self._program.values[option], self._words.pop(0))

    def _object(self, word: str) -> None:
        program = self._program
        name = word.partition("=")[0]
        option = name if program.words or name.startswith("--") else self._unknown_letter(name)
        fix = program.fixes.get(name) or program.fixes.get(option, "")
        self._found.object_to(f"{program.name} {option} is not on the list of allowed options", fix=fix)
        self._found.opaque |= program.otherwise == "opaque" or option in program.opaque_with

    def _unknown_letter(self, word: str) -> str:
        known = {*self._program.flags, *self._program.values, *self._program.attached}
        return next((f"-{letter}" for letter in word[1:] if f"-{letter}" not in known), word)

    def _take_operands(self) -> None:
        program, found = self._program, self._found
        kinds = list(program.operands)
        if kinds and program.instead & found.given:
            kinds.pop(0)
        for at, word in enumerate(self._operands):
            kind = kinds.pop(0) if kinds else program.rest
            if program.last and 0 < at == len(self._operands) - 1:
                kind = program.last
            if not kind:
                found.object_to(f"{program.name} {word!r} is not on the list", fix=program.fixes.get(word, ""))
                found.opaque |= program.otherwise == "opaque"
                break
            found.take(kind, word)
        for word in self._trailing:
            found.given.add(word)
            found.take(program.after, word)
        if program.otherwise == "opaque" and not self._operands and not program.instead & found.given:
            found.object_to(f"{program.name} runs what it reads")
            found.opaque = True

    def _check_needs(self) -> None:
        program, given = self._program, self._found.given
        for option, required in program.needs.items():
            applies = option in given if option != "*" else not program.excused & given
            missing = " ".join(each for each in required if each not in given)
            if applies and missing:
                said = program.name if option == "*" else f"{program.name} {option}"
                fix = program.fixes.get(option, f"add {missing}")
                self._found.object_to(f"{said} is allowed only with {missing}", fix=fix)


def _parsed(name: str, table: Mapping[str, object], *, kind: ProgramClass | None) -> Program:
    if unknown := set(table) - _KEYS:
        raise ValueError(f"unknown key {min(unknown)}")
    given = table.get("class", kind)
    if given not in list(ProgramClass):
        raise ValueError("class must be reader, confined or effect")
    own = ProgramClass(str(given))
    program = Program(
        name=name,
        kind=own,
        flags=tables.words(table, "flags"),
        values=_options(table, "values"),
        attached=_options(table, "attached"),
        words=tables.switch(table, "words"),
        numbers=tables.switch(table, "numbers"),
        stops=tables.switch(table, "stops"),
        literal=tables.switch(table, "literal"),
        operands=tuple(tables.text(table, "operands").split()),
        rest=tables.text(table, "rest"),
        last=tables.text(table, "last"),
        after=tables.text(table, "after"),
        instead=tables.words(table, "instead"),
        needs={option: tuple(required.split()) for option, required in tables.strings(table, "needs").items()},
        excused=tables.words(table, "excused"),
        effect_with=tables.words(table, "effect_with"),
        effect_without=tables.words(table, "effect_without"),
        opaque_with=tables.words(table, "opaque_with"),
        otherwise=tables.text(table, "otherwise"),
        opaque=tables.switch(table, "opaque"),
        scripts=tuple(tables.text(table, "scripts").split()),
        reads_as=tables.text(table, "reads_as"),
        fixes=tables.strings(table, "fixes"),
        verbs={verb: _parsed(f"{name} {verb}", inner, kind=own) for verb, inner in tables.tables(table, "verbs")},
    )
    _check(program)
    return program


def _options(table: Mapping[str, object], key: str) -> dict[str, str]:
    """Options by the kind of their value, which the file writes the other way round."""
    found: dict[str, str] = {}
    for kind, options in tables.strings(table, key).items():
        if kind not in KINDS:
            raise ValueError(f"{key}.{kind}: there is no such kind of value")
        for option in options.split():
            if option in found:
                raise ValueError(f"{key}.{kind}: {option} is listed twice")
            found[option] = kind
    return found


def _check(program: Program) -> None:
    options = [*program.flags, *program.values, *program.attached]
    twice = {option for option in options if options.count(option) > 1}
    if twice:
        raise ValueError(f"{min(twice)} is listed twice")
    for option in options:
        if not option.startswith("-") and not program.words:
            raise ValueError(f"flags: {option} is no option")
    kinds = {*program.operands, program.rest, program.last, program.after} - {""}
    if kinds - KINDS:
        raise ValueError(f"operands: there is no kind {min(kinds - KINDS)}")
    if program.otherwise not in {"", "opaque"}:
        raise ValueError("otherwise can only be opaque")
    strangers = (set(program.needs) | program.instead | program.excused | program.effect_with) - {*options, "*"}
    if strangers:
        raise ValueError(f"{min(strangers)} is not among the options")
