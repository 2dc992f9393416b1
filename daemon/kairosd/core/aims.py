"""Aims: what can be told of a goal by its words alone, and what must then be true of the work.

Every reading here errs to the side of saying nothing: what is not recognised is not checked, and not forbidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kairosd.core.json import JsonObject
from kairosd.frozen import frozen

# "How do I add X?" asks to be told; "How about adding X?", "why not bump it?" and "what, then: bump it" do not.
_WORD_ASKS = re.compile(r"(?:what|which|who|whose|why|how)\b(?! about\b| not\b| don'?t\b)[^:]*$", re.IGNORECASE)
_TOLD = re.compile(
    r"(?:what|which|who|whose|where|when|why|how)\b(?! about\b| not\b| don'?t\b)[^.!?:]*\?$", re.IGNORECASE
)
# These ask with their mark alone: "do the migration" and "when done, commit" are orders.
_MARK_ASKS = re.compile(
    r"(?:where|when|is|are|was|were|do|does|did|has|have|can|could|would|will)\b.*\?$", re.IGNORECASE | re.DOTALL
)
_TELLING = re.compile(r"(?:explain|describe|summari[sz]e|list|tell me|show me|find out)\b", re.IGNORECASE)
_WRITTEN = re.compile(
    r"\b(?:docstrings?|comments?|README|CHANGELOG)\b|\b(?:into|to)\s+\S+\.\w+\b(?!.*\?)", re.IGNORECASE
)
# "Can you add X?" asks for a change, whatever its last character is.
_ORDERS = (
    "add|amend|append|bump|change|clean|commit|convert|correct|create|delete|deploy|document|drop|edit|extend|extract|"
    "fix|format|handle|implement|improve|insert|install|introduce|land|lower|make|merge|migrate|modify|move|push|put|"
    "raise|refactor|refresh|remove|rename|repair|replace|revert|reword|rewrite|run|set|sort|split|support|tidy|"
    "translate|turn|update|upgrade|use|write"
)
_CHANGING = re.compile(rf"\b(?:{_ORDERS})\b", re.IGNORECASE)
# After "explain" only what begins anew is an order: "explain the delete command", "explain it, then delete it".
_THEN = re.compile(
    rf"(?:\b(?:and|then|but)\b|[,;.:!])\s*(?:(?:and|then|please|also|just|now)\s+)*(?:{_ORDERS})\b", re.IGNORECASE
)
# "Remember that the port is 9090": what comes after is a fact, whatever a model takes it for.
WISH = re.compile(
    r"(?:please |can you |could you )*(?:remember|note|keep in mind|don['’]t forget|mind)(?:,? that\b|:)\s*",
    re.IGNORECASE,
)
# "Remember: use tabs" is all to be kept; "Remember that it is slow. Fix it" is not.
_NEXT = re.compile(rf"(?:[.;!?]|\bthen\b)\s*(?:(?:and|then|please|also|just|now)\s+)*(?:{_ORDERS})\b", re.IGNORECASE)
_A_COMMIT = re.compile(
    r"\b(?:a|the|this|that|each|every|my|our|your|first|last|latest|newest|previous|recent)\s+commit\b", re.IGNORECASE
)  # a thing, not an order
_RENAME = re.compile(
    r"\brename\b(?:\s+(?:the|a|an|our|function|method|class|variable|constant|parameter|module|field|type|attribute|"
    r"property|option|argument|helper))*\s+[`'\"]?([A-Za-z_$][\w$]*)[`'\"]?(?:\(\))?\b.{0,60}?\b(?:to|into|as)\s+"
    r"[`'\"]?([A-Za-z_$][\w$]*)",
    re.IGNORECASE | re.DOTALL,
)
_FROM_TO = re.compile(r"\bfrom\s+[`'\"]?([\w.$-]*\w)[`'\"]?.{0,20}?\bto\s+[`'\"]?([\w.$-]*\w)", re.IGNORECASE)
_SECTION = re.compile(
    r"\b(?:in|into|to|of|under|from)\s+(?:the\s+)?(?:section\s+[`'\"]?(?P<after>[A-Z][\w-]*(?: [A-Z][\w-]*)*)|"
    r"[`'\"]?(?P<before>[A-Z][\w -]{1,40}?)[`'\"]?\s+section\b)"
)
# Of what is said about a section these ask for something outside of it as well.
_BEYOND = re.compile(
    r"\b(?:move|rename|split|merge|reorder|links?|refer|heading|title|like|as in|table of contents)\b", re.IGNORECASE
)
_LINE = re.compile(
    r"\b(?:add|append|insert|put|write)\b[^.;`'\"]{0,40}?\b(?:line|sentence|text|entry|heading|note)\s+"
    r"(?P<quote>[`'\"])(?P<text>.{3,200}?)(?P=quote)(?!\w)", re.IGNORECASE
)  # fmt: skip
_ASIDE = re.compile(r"\b(?:which|that|because|since|as|like)\b", re.IGNORECASE)  # what follows is not to be changed
# Only what is plainly told to be made: "add a note on TCP/IP", "add Node.js support" and an address name no file.
_NEW_FILE = re.compile(
    r"\b(?:(?:create|generate|make|write)\s+(?:(?:an?|the|new|empty|file|script|module|tests?|page|called|named)\s+)*|"
    r"(?:add|new)\s+(?:(?:an?|the|new|empty)\s+)*(?:file|script|module|tests?|page)\s+(?:(?:called|named|in)\s+)?)"
    r"[`'\"]?(?:\./)?(?P<path>(?:[\w.-]+/)*[\w-]+\.\w{1,5})[`'\"]?"
    r"(?=\s*(?:[,.;:]?\s*$|[,.;:]\s|(?:that|which|with|for|in|and|as|contain\w*|hold\w*|saying)\b))", re.IGNORECASE
)  # fmt: skip
_LAST_COMMIT = re.compile(r"\b(?:last|latest|newest|most recent)\s+commit\b", re.IGNORECASE)
# Of nothing else than what it is, who made it and what it changed.
_ONLY_LAST_COMMIT = re.compile(
    r"(?:(?:what|what's|which|who|when|files?|lines?|change[sd]?|was|were|is|are|did|does|do|has|have|been|in|by|with|of|"
    r"the|our|my|this|last|latest|newest|most|recent|commit|new|made|show|tell|me|about|please|summari[sz]e|describe|"
    r"explain|list|it|and|all|message|subject|author|date|diff)\b\W*)+", re.IGNORECASE
)  # fmt: skip
_MOVES = re.compile(r"\b(?:copy|move|rename|split)\b", re.IGNORECASE)
_MENDS = re.compile(
    r"\b(?:bugs?|broken|correct|crash\w*|errors?|fail\w*|fix\w*|green|mend|pass\w*|repair|tests?|works?|wrong)\b",
    re.IGNORECASE,
)
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_TESTS_WANTED = re.compile(
    r"\b(?:add|write|create|extend|update|change|correct|rewrite|remove|rename)\b[^.;]{0,40}\btests?\b", re.IGNORECASE
)
# What is spelt as in code: an option, a name with an underscore or a hump, a call, or anything in quotes.
_CODE = re.compile(
    r"(?<![\w-])(--[a-z][\w-]+)|[`'\"]([^`'\"\s]{2,60})[`'\"]|\b([A-Za-z]\w*_\w+|[a-z]+[A-Z]\w*)\b|\b(\w{2,})\("
)
_PATH = re.compile(r"[\w.-]+/[\w./-]*\w|\b\w[\w-]*\.(?:c|cfg|go|h|html|ini|js|json|md|py|rs|sh|toml|ts|txt|ya?ml)\b")
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9-]{2,}|\d{2,}")
_TEST_FILE = re.compile(r"(?:^|/)(?:tests?|spec|__tests__)/|(?:^|/)test_[^/]*$|[._-](?:test|spec)\.\w+$|_test\.\w+$")
_PROSE = re.compile(r"\.(?:md|rst|txt|adoc)$|(?:^|/)(?:LICENSE|CHANGELOG|README|NOTICE)$", re.IGNORECASE)
_COMMON = frozenset(
    ("the", "and", "for", "that", "this", "with", "from", "into", "its", "which", "what", "where", "when", "how", "are",
     "was", "does", "not", "should", "must", "have", "has", "all", "any", "every", "there", "file", "files", "code",
     "function", "please", "make", "add", "fix", "change", "use", "you", "your", "can", "one", "new", "name", "line")
)  # fmt: skip


@frozen
class Aim:
    """A goal, read. `names` are what it spells as in code; `renaming` is (old, new)."""

    goal: str

    @property
    def is_question(self) -> bool:
        """Whether it asks to be told something, and nothing to be changed."""
        text = self.goal.strip()
        rest = text.partition("?")[2].strip()
        if rest and not rest.endswith("?"):
            return False  # a question, and then what to do about it
        if _TOLD.match(text):
            return True
        told = _TELLING.match(text) is not None and _WRITTEN.search(text) is None
        if told:
            return _THEN.search(text) is None
        asks = _WORD_ASKS.match(text) is not None or _MARK_ASKS.match(text) is not None
        return asks and not _changes(re.sub(r"\b(?:used|use|set|make|made|sort|format|run)\b", "", text))

    @property
    def is_about_last_commit(self) -> bool:
        """Whether it asks what the last commit is."""
        return self.is_question and _LAST_COMMIT.search(self.goal) is not None

    @property
    def last_commit_answers(self) -> bool:
        """Whether the last commit is all that has to be looked at."""
        return self.is_about_last_commit and _ONLY_LAST_COMMIT.fullmatch(self.goal.strip()) is not None

    @property
    def note(self) -> str:
        """What is to be remembered, where that is all that it asks for; else empty."""
        text = self.goal.strip()
        wish = WISH.match(text)
        rest = text[wish.end() :] if wish else ""
        return "" if rest.endswith("?") or _NEXT.search(rest) else rest

    @property
    def is_change(self) -> bool:
        """Whether it asks for something to be changed."""
        return not self.is_question and not self.note and _changes(self.goal)

    @property
    def wants_tests(self) -> bool:
        """Whether tests are what it asks to be changed."""
        return _TESTS_WANTED.search(self.goal) is not None

    @property
    def renaming(self) -> tuple[str, str] | None:
        """(old, new) where a name is to become another one."""
        found = _RENAME.search(self.goal)
        return (found[1], found[2]) if found and found[1] != found[2] else None

    @property
    def revaluing(self) -> tuple[str, str] | None:
        """(A, B) where something shall go "from A to B"."""
        found = _FROM_TO.search(self.goal)
        return (found[1], found[2]) if found and found[1] != found[2] and self.is_change else None

    @property
    def section(self) -> str:
        """The heading of the one section of a text that it is about, "" where it names none, or more than that."""
        found = list(_SECTION.finditer(self.goal))
        alone = len(found) == 1 == len(re.findall(r"\bsections?\b", self.goal, re.IGNORECASE))
        return (found[0]["after"] or found[0]["before"]).strip() if alone and not _BEYOND.search(self.goal) else ""

    @property
    def line(self) -> str:
        """The line that shall be added word for word, "" where it gives none."""
        found = _LINE.search(self.goal)
        return found["text"] if found else ""

    @property
    def mends(self) -> bool:
        """Whether something that fails shall work."""
        return _MENDS.search(self.goal) is not None

    @property
    def moves(self) -> bool:
        """Whether something goes from one file to another."""
        return _MOVES.search(self.goal) is not None

    def new_file(self, paths: Sequence[str]) -> str:
        """The one file that it asks to make and that is not among `paths`, "" where it asks for none."""
        found = {one["path"] for one in _NEW_FILE.finditer(self.goal)}
        absent = [one for one in found if not any(f"/{path}".endswith(f"/{one}") for path in paths)]
        return absent[0] if len(absent) == 1 and not self.moves else ""

    def to_change(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Those of `paths` that it asks to be changed, as far as its first words tell."""
        return Aim(_ASIDE.split(self.goal)[0]).named(paths)

    @property
    def in_code(self) -> bool:
        """Whether it says that the code is to be changed."""
        return self.is_change and re.search(r"\bcode\b", self.goal, re.IGNORECASE) is not None

    @property
    def names(self) -> tuple[str, ...]:
        """What the goal spells as in code, paths of files left out."""
        return tuple(dict.fromkeys(_spelt(_PATH.sub(" ", self.goal))))

    def words(self) -> frozenset[str]:
        """The words that a search for what it is about would use, in lower case, with the parts of compound names."""
        found = _WORD.findall(self.goal)
        parts = [part for each in found for part in re.findall(r"[A-Z]?[a-z]+|\d+", each)]
        words = {word.lower() for word in (*found, *parts) if len(word) > 2 or word.isdigit()}
        return frozenset(words - _COMMON)

    def named(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Those of `paths` that it names: by path, by file name, or by a name in capitals such as README."""
        return tuple(path for path in paths if self._names(path))

    def _names(self, path: str) -> bool:
        file = path.rpartition("/")[2]
        stem = file.partition(".")[0]
        ways = [path, file, *([stem] if stem.isupper() and len(stem) > 2 else [])]
        return any(re.search(rf"(?<![\w./-]){re.escape(way)}(?![\w/-]|\.\w)", self.goal) for way in ways)


def _spelt(text: str) -> list[str]:
    return [next(filter(None, each.groups())) for each in _CODE.finditer(text)]


def is_test(path: str) -> bool:
    """Whether a file holds tests, by its name."""
    return _TEST_FILE.search(path) is not None


def is_prose(path: str) -> bool:
    """Whether a file is written for people."""
    return _PROSE.search(path) is not None


def ranked(aim: Aim, texts: Mapping[str, str]) -> tuple[str, ...]:
    """The files by how much they have to do with the goal, those it names first; what shares no word is left out.

    A word counts the more, the fewer files have it; in a file's own path it counts three times.
    """
    words = aim.words()
    found = {path: _found(words, path, text=text) for path, text in texts.items()}
    spread = {word: sum(word in each for each in found.values()) for word in words}
    named = set(aim.named(tuple(texts)))
    scores = {
        path: sum(count / spread[word] for word, count in each.items()) + 100 * (path in named)
        for path, each in found.items()
    }
    return tuple(sorted((path for path, score in scores.items() if score > 0), key=lambda path: (-scores[path], path)))


def _found(words: frozenset[str], path: str, *, text: str) -> Mapping[str, float]:
    inside, name = text.lower(), path.lower()
    found: dict[str, float] = {}
    for word in words:
        stem = word if len(word) < 5 else word[: max(4, len(word) - 2)]  # "hashed" and "hashing" are both "hash"
        count = 3.0 * (stem in name) + min(3, inside.count(stem)) / 3
        if count:
            found[word] = count
    return found


def postconditions(aim: Aim, texts: Mapping[str, str], *, base: str | None) -> tuple[JsonObject, ...]:
    """What must be true once the goal is reached, as checks; `texts` are the files as they were before.

    `base` is the commit that the run's work began from, None where it has changed nothing.
    """
    if not aim.is_change:
        return ()
    if base is None:
        return ({"kind": "changed", "base": ""},)
    paths = [path for path in aim.to_change(tuple(texts)) if aim.wants_tests or not is_test(path)]
    paths += filter(None, [aim.new_file(tuple(texts))])
    where: list[JsonObject] = [{"path": path} for path in paths] or [{}]
    checks: list[JsonObject] = [{"kind": "changed", "base": base, **each} for each in where]
    if aim.renaming:
        old, new = aim.renaming
        return (*checks, {"kind": "gone", "text": old}, {"kind": "added", "base": base, "text": new})
    if aim.line and not any(aim.line in text for text in texts.values()):
        checks += [{"kind": "added", "base": base, "text": aim.line, "path": paths[0] if len(paths) == 1 else ""}]
    if aim.section:
        held = [path for path in paths if path in texts and is_prose(path) and parted(texts[path], aim.section)[0]]
        checks += [{"kind": "within", "base": base, "path": path, "text": aim.section} for path in held]
    there = {aim.line, *texts}  # a line has a check of its own
    new_names = [name for name in aim.names if not any(name in text for text in texts.values()) and name not in there]
    checks += [{"kind": "added", "base": base, "text": name} for name in new_names]
    if aim.revaluing:
        checks += [{"kind": "added", "base": base, "text": aim.revaluing[1], "path": path} for path in paths or [""]]
    return (*checks, {"kind": "changed", "base": base, "where": "code"}) if aim.in_code else tuple(checks)


def parted(text: str, heading: str) -> tuple[str, str]:
    """A text as (the sections under a heading, with what is below them; all else); case does not count."""
    parts: tuple[list[str], list[str]] = ([], [])
    level, fenced = 0, False
    for line in text.split("\n"):
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        if (found := _HEADING.match(line)) and not fenced:
            same = found[2].lower() == heading.lower()
            level = (
                len(found[1]) if same and not level else 0 if level and len(found[1]) <= level and not same else level
            )
        parts[0 if level else 1].append(line)
    return "\n".join(parts[0]), "\n".join(parts[1])


def unfounded(answer: str, seen: str) -> tuple[str, ...]:
    """What `answer` states as in code that is nowhere in `seen`: names, paths, and numbers of several digits."""
    stated = [*_spelt(answer), *_PATH.findall(answer), *re.findall(r"(?<![\w.])\d{2,}(?![\w.]*\w)", answer)]
    inside = seen.replace("_", "").lower()
    numbers = set(re.findall(r"\d+", inside))
    plain = ((one, one.replace("_", "").lower()) for one in stated)
    return tuple(dict.fromkeys(one for one, word in plain if word not in (numbers if word.isdigit() else inside)))


def founded(answer: str, seen: str) -> str:
    """The sentences of `answer` that state nothing `unfounded`."""
    return " ".join(one for one in re.split(r"(?<=[.!?])\s+", answer) if not unfounded(one, seen))


def _changes(text: str) -> bool:
    return _CHANGING.search(_A_COMMIT.sub(" ", text)) is not None
