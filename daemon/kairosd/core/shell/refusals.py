"""Refusals of shell lines: the rule broken, how else to say it, and where it can be given the very line to run."""

from __future__ import annotations

import re

from kairosd.errors import ShellFormError

_RESERVED = "if then elif else fi for while until do done case esac in function select time coproc ! { } [[ ]]"
_BUILTINS = (
    ". : alias bg bind break builtin caller cd command compgen complete compopt continue declare dirs disown enable"
    " eval exec exit export fc fg getopts hash help history jobs kill let local logout mapfile popd pushd read"
    " readarray readonly return set shift shopt source suspend times trap type typeset ulimit umask unalias unset"
    " wait"
)
RESERVED = frozenset(_RESERVED.split())
# Builtins of bash that are no programs, or that as programs could not do what the builtin does to its shell.
BUILTINS = frozenset(_BUILTINS.split())

_HOW = {
    "for": "make one call per file, or name all files in one command",
    "while": "make one call per step",
    "until": "make one call per step",
    "select": "make one call per choice",
    "if": "write TEST && COMMAND, or run the test and look at its exit code",
    "case": "look at the text yourself, then run the command that fits",
    "function": "write the command itself where it is needed",
    "coproc": "run the command by itself",
    "time": "leave time out, durations are recorded anyway",
    "!": "run the command without ! and look at its exit code",
    "{": "write the commands one after the other, without { }",
    "[[": "use [ ... ] with quoted words",
    "eval": "write the command itself",
    "exec": "write the command itself",
    "command": "write the command itself",
    "builtin": "write the command itself",
    "source": "run the script as a program, or a program of a virtual environment by its path: .venv/bin/pytest",
    "export": "leave the variable out: commands get a fixed environment",
    "set": "leave set out; && stops at the first failure",
    "shopt": "leave shopt out",
    "trap": "leave trap out",
    "alias": "write the command itself",
    "type": "run the program itself, with --version",
    "hash": "run the program itself, with --version",
    "read": "read the file with the tool read",
    "wait": "leave it out: each command is waited for",
    "cd": "give it in a line: cd DIR && COMMAND",
    "kill": "leave it out: a command ends with its call",
    "exit": "leave it out; && stops at the first failure",
    ":": "write true",
    "pushd": "write cd DIR && COMMAND",
    "popd": "leave it out: each call starts at the workspace's root",
    "ulimit": "leave ulimit out: limits are set already",
    "umask": "leave umask out",
    "history": "there is no history",
}
_SAME = {
    ".": "source",
    "declare": "export",
    "typeset": "export",
    "readonly": "export",
    "local": "export",
    "unset": "export",
    "unalias": "alias",
    "mapfile": "read",
    "readarray": "read",
    "fg": "wait",
    "bg": "wait",
    "jobs": "wait",
    "disown": "wait",
    "return": "exit",
    "logout": "exit",
    "dirs": "popd",
    "fc": "history",
}
_VALUE = r"(?:'[^'\n]*'|\"[^\"\n$`\\]*\"|[\w./:,@%+-]*)"
_THEN = r"[ \t]*(?:;|&&|\n)\s*"
# What replaces the text from a builtin's name on; only tried where it matches.
_INSTEAD = {
    "time": (re.compile(r"time[ \t]+(?:-p[ \t]+)?(?=[^-\s])"), ""),
    "exec": (re.compile(r"exec[ \t]+(?=[^-\s<>&])"), ""),
    "command": (re.compile(r"command[ \t]+(?=[^-\s])"), ""),
    "builtin": (re.compile(r"builtin[ \t]+(?=[^-\s])"), ""),
    "export": (re.compile(rf"export(?:[ \t]+[A-Za-z_]\w*={_VALUE})+{_THEN}"), ""),
    "set": (re.compile(rf"set(?:[ \t]+[-+][a-z]+)+(?:[ \t]+pipefail)?{_THEN}"), ""),
    "source": (re.compile(rf"(?:source|\.)[ \t]+([\w./-]+)/bin/activate{_THEN}"), r"\1/bin/"),
    ":": (re.compile(r":(?=[ \t]*(?:$|[;\n|&]))"), "true"),
    "{": (re.compile(r"\{[ \t\n]([^{}]*)\}"), r"\1"),
    "[[": (re.compile(r"\[\[ ([^\[\]&|<>$*?~]*) \]\]"), r"[ \1 ]"),
}
_STATUS = re.compile(r"(?:;|&&|\n)[ \t]*echo[ \t]+(?:\"[^\"$`\\]*\$\?[^\"$`\\]*\"|[\w:=]*\$\?)\s*$")
_LISTING = re.compile(r"ls[ \t]+")
# Programs that read patterns themselves: in an operand, in the first operand only, or nowhere but in options.
_PATTERNS_ANYWHERE = frozenset({"find", "git", "pytest", "npx", "npm"})
_PATTERN_FIRST = frozenset({"grep", "egrep", "fgrep", "rg", "sed", "jq", "awk", "expr"})


class NotPlain(ShellFormError):
    """The line is not plain. `line` is one that is, or comes nearer to it: it is offered once it is read itself."""

    def __init__(self, rule: str, *, advice: str = "", line: str = "") -> None:
        super().__init__(rule, fix=advice or None)
        self.line = line


def refuse_name(word: str, *, line: str = "", start: int = 0) -> None:
    """Refuses the words that make sense to a shell only. `start` is where in `line` the word begins.

    Raises `NotPlain`.
    """
    if word in RESERVED or word in BUILTINS:
        kind = "a reserved word" if word in RESERVED else "a builtin"
        key = _SAME.get(word, word)
        pattern, instead = _INSTEAD.get(key, (None, ""))
        found = pattern.match(line, start) if pattern else None
        rewritten = line[:start] + found.expand(instead) + line[found.end() :] if found else ""
        advice = _HOW.get(key, "write plain commands, joined by && || ; or |")
        raise NotPlain(f"`{word}` is {kind} of the shell, and no shell runs here", advice=advice, line=rewritten)
    if not word:
        raise NotPlain("the name of the command is empty")
    if word[0] in "%{}" or "=" in word:
        raise NotPlain(f"`{word}` cannot be a command's name", advice="begin with the program's name")


def assignment(line: str, *, start: int, end: int) -> NotPlain:
    """`NAME=value` in front of a command, at `line[start:end]`."""
    name = line[start:end].partition("=")[0].rstrip("+")
    return NotPlain(
        f"a variable is set (`{name}=`)",
        advice=f"leave {name}=... out: commands get a fixed environment",
        line="" if line.startswith("(", end) else line[:start] + line[end:].lstrip(" \t;\n"),
    )


def expansion(line: str, *, at: int) -> NotPlain:
    """A `$` that means something to a shell, at `line[at]`."""
    rest = line[at : at + 200]
    if rest.startswith("$(("):
        return NotPlain("`$((...))` is computed by a shell", advice="write the result")
    if rest.startswith("$("):
        return _substitution(rest[2:].partition(")")[0])
    if rest[1:2] in ("'", '"'):
        return NotPlain(f"`{rest[:2]}` quoting is not allowed", advice="use '...' with the characters themselves")
    if rest.startswith("$?"):
        status = _STATUS.search(line)
        advice = "leave it out: the exit code is reported anyway"
        return NotPlain("`$?` is a variable", advice=advice, line=line[: status.start()].rstrip() if status else "")
    name = re.match(r"\$\{?\w*", rest)
    return NotPlain(
        f"`{name[0] if name else rest[:2]}` is a variable",
        advice="write its value, and paths relative to the workspace; a $ that is meant goes into '...'",
    )


def backticks(line: str, *, at: int) -> NotPlain:
    """A backtick that is not quoted away, at `line[at]`."""
    return _substitution(line[at + 1 : at + 201].partition("`")[0])


def _substitution(inner: str) -> NotPlain:
    inner = inner.strip()
    what = f"`{inner}`" if re.fullmatch(r"[^`$()\n]+", inner) else "the inner command"
    advice = f"run {what} first, then use what it printed"
    return NotPlain("a command inside a command is run by a shell", advice=advice)


def glob(line: str, *, start: int, end: int, before: tuple[str, ...], head: int) -> NotPlain:
    """A word with `*`, `?` or `[` at `line[start:end]`; `before` are its command's words, which begin at `head`."""
    raw = line[start:end]
    rule = f"`{raw}` is expanded by a shell"
    if _meant_as_pattern(raw, before):
        return NotPlain(rule, advice="put the pattern in quotes", line=_requoted(line, start=start, end=end))
    folder, _, name = raw.rpartition("/")
    if not re.fullmatch(r"[\w./-]*", folder) or not re.fullmatch(r"[\w.*?\[\]-]+", name):
        return NotPlain(rule, advice="name the files, or list them with the tool glob first")
    listing = f"find {folder or ('/' if raw.startswith('/') else '.')} -maxdepth 1 -name '{name}'"
    alone = _LISTING.match(line, head)
    if alone and alone.end() == start and re.match(r"[ \t]*(?:$|[;|&\n])", line[end:]):
        return NotPlain(rule, advice="let find match the names", line=line[:head] + listing + line[end:])
    return NotPlain(rule, advice=f"name the files; `{listing}` or the tool glob lists them")


def _meant_as_pattern(raw: str, before: tuple[str, ...]) -> bool:
    if raw.startswith("-") or "::" in raw:
        return True
    known = _PATTERNS_ANYWHERE | _PATTERN_FIRST
    program = next((word for word in before if word in known), "")
    if program in _PATTERN_FIRST:
        return before[-1].startswith("-") or all(word.startswith("-") for word in before[before.index(program) + 1 :])
    return program in _PATTERNS_ANYWHERE


def braces(line: str, *, start: int, end: int) -> NotPlain:
    """A word with a brace expansion at `line[start:end]`."""
    found = re.fullmatch(r"([\w./:=+@%-]*)\{([\w./-]*(?:,[\w./-]*)+)\}([\w./:=+@%-]*)", line[start:end])
    words = [found[1] + part + found[3] for part in found[2].split(",")] if found else []
    rewritten = line[:start] + " ".join(words) + line[end:] if words and all(words) else ""
    if re.search(r"@\{\w+\}", line[start:end]) and "," not in line[start:end]:
        rewritten = _requoted(line, start=start, end=end)
    return NotPlain("braces with `,` or `..` are expanded by a shell", advice="write each word", line=rewritten)


def tilde() -> NotPlain:
    """A `~` that stands for a home."""
    return NotPlain("`~` is expanded by a shell", advice="write a path relative to the workspace")


def needs_quotes(line: str, *, what: str, start: int, end: int) -> NotPlain:
    """A word at `line[start:end]` that some shells read as more than text."""
    return NotPlain(f"{what} outside quotes", advice="quote the word", line=_requoted(line, start=start, end=end))


def _requoted(line: str, *, start: int, end: int) -> str:
    raw = line[start:end]
    if "'" in raw or '"' in raw or "\\" in raw:
        return ""
    option, equals, pattern = raw.partition("=") if raw.startswith("-") else ("", "", raw)
    return f"{line[:start]}{option}{equals}'{pattern}'{line[end:]}"


def parenthesis(line: str, *, at: int, first: bool, named: bool) -> NotPlain:
    """A `(` or `)` outside quotes: a subshell where a command begins, a function after its name."""
    if first and line.startswith("((", at):
        return NotPlain("`((...))` is computed by a shell", advice="write the result")
    if first:
        whole = re.fullmatch(r"\s*\(([^()]*)\)\s*", line)
        advice = "write the commands without ( )"
        return NotPlain("a subshell", advice=advice, line=whole[1].strip() if whole else "")
    if named and line.startswith("()", at):
        return NotPlain("a function is defined", advice=_HOW["function"])
    return NotPlain(f"`{line[at]}` outside quotes", advice=r"quote it: '(', or \( as find takes it")


def background(line: str, *, at: int) -> NotPlain:
    """A `&` after a command."""
    rest = line[at + 1 :].strip()
    instead = f"{line[:at].rstrip()}; {rest}" if rest else line[:at].rstrip()
    return NotPlain("`&` would leave a command running", advice="leave the & out", line=instead)


def redirect(operator: str) -> NotPlain:
    """A redirect operator that no plan has a place for."""
    if operator.startswith("<<<"):
        return NotPlain("a here-string", advice=r"pipe the text in: printf '%s\n' 'TEXT' | COMMAND")
    if operator.startswith("<<"):
        return NotPlain("a here-document", advice="write the text into a file with the tool write")
    if operator.endswith("("):
        return NotPlain("a process substitution", advice="run the inner command first, then use what it printed")
    if operator.endswith("<>"):
        return NotPlain("`<>` opens a file for writing", advice="write the file with the tool write")
    if operator.endswith((">>", ">|")):
        return to_file(operator, line="", written=False)
    return NotPlain(f"the redirect `{operator}` is not allowed", advice="output is captured anyway: leave it out")


def to_file(operator: str, *, line: str, written: bool) -> NotPlain:
    """Output into anything but /dev/null. `line` is the one without it; `written`: it is words of the line."""
    if written and not operator.startswith("2"):
        return NotPlain("a redirect into a file", advice="write the file with the tool write")
    advice = "output is captured anyway: leave the redirect out; a file is made with the tool write"
    return NotPlain("a redirect into a file", advice=advice, line=line)
