"""Operands and values of options: which words of a command are paths, and what the others may say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# Escapes that print no control character but these cannot steer a terminal.
_ESCAPES = r"(?:[^\\]|\\[nt\\\"'])*"
_CONVERSION = r"%[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*))?[sdiouxXfFeEgGc%]"
# %G asks the program that the repository names for signatures; \e, %x1b would print a control character.
_GIT_FORMAT = r"(?:[^%]|%(?![-+ ]*G|x(?!00|09|0[aA]|[2-6][\da-fA-F]|7[\da-eA-E])))*"
# Here %1b is the control character.
_REF_FORMAT = r"(?:[^%]|%(?!\(\*?signature|(?!00|09|0[aA])[\da-fA-F]{2}))*"

# What a word that is no path may look like: (pattern, what it should have been).
PLAIN = {
    "text": (r"(?s:.*)", "text"),
    "number": (r"[-+]?\d+(?:\.\d+)?[A-Za-z%]{0,3}", "a number"),
    "numbers": (r"[-+]?\d+(?:,[-+]?\d+)?", "a number or two"),
    "seconds": (r"(?:[0-5]?\d(?:\.\d+)?|60)s?", "at most 60 seconds"),
    "word": (r"[\w.,:@%+=-]*", "a plain word"),
    "name": (r"[A-Za-z_][\w.:+-]*", "a plain name"),
    "names": (r"[A-Za-z_*@!][\w.:+*@/ ,!-]*", "plain names"),
    "assignment": (r"[A-Za-z_][\w.-]*(?:=[\w.,:+-]*)?", "a plain setting"),
    "escapes": (_ESCAPES, "text without escapes other than \\n and \\t"),
    "printf": (rf"(?:[^\\%]|\\[nt\\\"']|{_CONVERSION})*", "a format with \\n, \\t and plain conversions"),
    "find-printf": (r"(?:[^\\]|\\[nt\\0](?!\d))*", "a format without escapes other than \\n, \\t and \\0"),
    "echo": (r"(?!-[neE]+$)(?!--(?:help|version)$)(?s:.*)", "text: options of echo stand apart"),
    "set": (r"(?:[^\\]|\\[nt0\\\[\]-](?!\d))*", "characters without escapes other than \\n, \\t and \\0"),
    "set-from": (r"(?:[^\\]|\\[nrt0\\\[\]-](?!\d))*", "characters without escapes other than \\n, \\r, \\t and \\0"),
    "date": (r"\+(?s:.*)", "a format that begins with +"),
    "mode": (r"[ugoa]*[-+=][rwxX]+(?:,[ugoa]*[-+=][rwxX]+)*|0?[0-7]{3}", "a mode without set-id bits"),
    "ref-format": (_REF_FORMAT, "a format without signatures and control characters"),
    "git-pretty": (
        rf"(?:oneline|short|medium|full|fuller|reference|email|raw|t?format:{_GIT_FORMAT}|(?=(?s:.*)%){_GIT_FORMAT}|)",
        "one of git's own formats, or one without %G",
    ),
    "jq": (
        r"(?s:(?!.*(?:\benv\b|\$ENV|\binput_filename\b|\bimport\b|\binclude\b|\bmodulemeta\b|\$__prog|\\u|\bimplode\b"
        r"|@base(?:32|64)d|\bdebug\b|\bget_search_list\b|\binput_line_number\b|\bstderr\b)).*)",
        "a filter that reads its input only",
    ),
    "npm-script": (
        r"(?:tests?|unit|e2e|integration|lint|build|check|checks|typecheck|type-check|types|tsc|compile|coverage|ci"
        r"|verify|validate|format[:-]check)(?:[:.-][\w:.-]*)?",
        "the name of a script that tests, checks or builds",
    ),
    "make-target": (r"[\w.%/+-]+", "a target (a variable may name a program)"),
    "plugin": (r"no:[\w.-]+|[A-Za-z_][\w.]*", "the name of a plugin"),
    "package-name": (r"(?:@[\w.-]+/)?[A-Za-z][\w.-]*", "the name of a package"),
    "lint-flag": (r"-[DWAF](?:[a-z][\w:-]*)?|[a-z][\w:-]*", "a lint, or -D, -W, -A, -F before it"),
    "fmt-flag": (r"--check|-l", "--check"),
    "line-range": (r"(?:\d+|/[^/\n]+/)?(?:,(?:[+-]?\d+|/[^/\n]+/)?)?|:\w+", "a range of lines"),
    "ref-sort": (r"(?!.*signature)[\w.,:*%+=-]*", "a field without signatures"),
    "ref-name": (r"[\w@{}^~./-]*", "a revision"),
    "reflog": (r"(?!expire$|delete$|drop$|write$)[\w@][\w@{}^~./-]*", "a branch"),
    "reporter": (r"spec|tap|dot|junit", "one of node's own reporters"),
}  # fmt: skip
_COMPILED = {kind: (re.compile(pattern), what) for kind, (pattern, what) in PLAIN.items()}

PATHS = frozenset({"read", "write", "script", "js", "node", "package", "ref", "pathspec", "sed"})
KINDS = frozenset(PLAIN) | PATHS

_JS = re.compile(r".*\.[cm]?[jt]s")
_PATHSPEC = re.compile(r":(?:[!^]|/(?!/)|\((?:top|exclude|top,exclude|exclude,top)\))?")
_SED_ADDRESS = r"(?:\d+(?:~\d+)?|\$|/(?:[^/\\\n]|\\[^\nxodcafv])+/I?)"
_SED_PART = r"(?:(?!(?P=d))[^\\\n]|\\[^\nxodcafv])*"
_SED = re.compile(
    rf"\s*(?:{_SED_ADDRESS}(?:\s*,\s*(?:{_SED_ADDRESS}|[+~]\d+))?\s*)?!?\s*"
    rf"(?:[pdq=]|s(?P<d>[/|#,@:!]){_SED_PART}(?P=d){_SED_PART}(?P=d)[gpIi\d]*)\s*(?:[;\n]+|$)"
)


@dataclass(slots=True)
class Findings:
    """What has been found in a command so far; `problem` is the first thing that no list allows."""

    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    given: set[str] = field(default_factory=set)  # options, as the list writes them
    problem: str = ""
    fix: str = ""
    opaque: bool = False

    def object_to(self, problem: str, *, fix: str = "") -> None:
        """Keeps the first problem: the one that the command's author meets first."""
        if not self.problem:
            self.problem, self.fix = problem, fix

    def take(self, kind: str, word: str) -> None:
        """Reads `word` as a `kind` of `KINDS`: notes the path it names, or that it is not what it should be."""
        if kind in _COMPILED:
            pattern, what = _COMPILED[kind]
            if not pattern.fullmatch(word):
                self.object_to(f"{word!r} is not {what}")
        elif kind == "sed":
            self._take_sed(word)
        elif kind == "ref":
            self._take_ref(word)
        elif kind == "pathspec":
            self._take_pathspec(word)
        else:
            self._take_path(kind, word)

    def _take_path(self, kind: str, word: str) -> None:
        if kind == "node":
            self.reads.append(word.partition("::")[0])
        elif kind == "package":
            if word.startswith((".", "/")):
                self.reads.append(word.removesuffix("..."))
        elif kind in {"script", "js"}:
            self.scripts.append(word)
            if kind == "js" and not _JS.fullmatch(word):
                self.object_to(f"{word!r} is no JavaScript file")
            if word == "-":
                self.object_to("a program would be read from the pipe")
                self.opaque = True
        else:
            (self.writes if kind == "write" else self.reads).append(word)

    def _take_ref(self, word: str) -> None:
        """A revision or `REVISION:PATH`; or a path, which git takes in the same place, also one of another folder."""
        revision, colon, path = word.partition(":")
        if word.startswith("-") and word != "-":
            self.object_to(f"{word!r} is no revision")
        elif not colon:
            self.reads.append(word)
        elif revision or not path.startswith("/"):  # `:/TEXT` finds a commit by its message
            self.reads.append(path[2:] if not revision and path[1:2] == ":" else path or ".")

    def _take_pathspec(self, word: str) -> None:
        if not word.startswith(":"):
            self.reads.append(word)
            return
        magic = _PATHSPEC.match(word)
        rest = word[magic.end() :] if magic else word
        if rest.startswith((":", "(")) or magic is None or magic[0] == ":":
            self.object_to(f"{word!r} is a pattern that only git can read")
        else:
            self.reads.append(rest or ".")

    def _take_sed(self, script: str) -> None:
        place = 0
        while place < len(script):
            statement = _SED.match(script, place)
            if statement is None or statement.end() == place:
                self.object_to(
                    f"{script[place:]!r} is more than sed may be told here: addresses with p, d, q, = and s///",
                    fix="print lines with sed -n '10,20p' FILE, or use the tool read",
                )
                return
            place = statement.end()
