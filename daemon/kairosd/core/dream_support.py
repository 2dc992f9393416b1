"""What a remembered sentence owes to its sources: its words, its values, its sense, and nothing that orders about."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from kairosd.core.memory import CACHED, STOP_WORDS, content_words
from kairosd.core.norms import norm
from kairosd.core.secrets import PLACEHOLDER, SHAPES, is_told_secret

SUPPORT = 0.6  # the share of a line's content words that its sources must hold (invariant I3)

_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s<>\"'`]+", re.I)
_PATH = re.compile(r"(?<![\w/])(?:~|\.{1,2}|[\w@+-][\w.@+-]*)?(?:/[\w.@+~-]+)+/?")
_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_FILE = re.compile(r"\b[\w-]+(?:\.[\w-]+)*\.[A-Za-z][A-Za-z0-9]{0,9}\b")
_HASH = re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{7,64}\b", re.I)
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_SPELLED_WORDS = (
    "two three four five six seven eight nine ten eleven twelve thirteen fifteen twenty thirty forty fifty sixty "
    "hundred thousand million billion dozen half twice"
)
_SPELLED = frozenset(_SPELLED_WORDS.split())
_ENDINGS = ("ations", "ation", "ings", "ing", "edly", "ers", "ies", "ied", "ed", "er", "es", "ly", "s", "e")
_NEGATIONS = re.compile(r"\b(?:not|no|never|none|nor|cannot|without|neither|nobody|nothing|\w+n['’]t)\b", re.I)
_WONDERS = re.compile(r"\b(?:whether|wonder(?:s|ing)?|what if|suppose|imagine)\b", re.I)
_REMINDS = re.compile(r"\b(?:remember|note|keep in mind|don['’]t forget|mind) that\b", re.I)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")

_ORDER = re.compile(
    r"\b(?:must|should|shall|always|never|ought|have to|has to|needs? to|make sure|ensure|remember to|do not"
    r"|don['’]t|please|from now on|going forward|whenever|ignore|disregard|override|bypass|approve"
    r"|grant|whitelist|pre-?approved?|"
    r"authori[sz]ed?|instructions?|system prompt|assistant|jailbreak|you|your)\b",
    re.I,
)
_IMPERATIVE = re.compile(
    r"(?:^|[.;:!?-]\s+|\b(?:and|then|to|note|important|action|todo)\b[:,]?\s*)(?:first |now |just |then )?"
    r"(?:run|execute|use|call|send|post|fetch|curl|wget|install|delete|remove|push|merge|force|open|visit|click|read|write"
    r"|add|set|change|update|copy|paste|print|echo|export|reveal|forward|email|mail|upload|download|act|treat|trust|enable"
    r"|disable|stop|start|restart|reset|reply|tell|say|answer|pretend|skip|allow|deploy"
    r"|commit(?! [0-9a-f]{7,}| messages?\b)|drop|rm|sudo|chmod|give)\b"
    r"(?! (?:is|was|are|were|has|had|fails?|failed|passed|passes|succeeded|runs?|ran|took|takes|of|on|at|in)\b)",
    re.I,
)
_REACHES_OUT = re.compile(
    r"\b(?:curl|wget|nc|ncat|ssh|scp|eval|bash|sh|powershell|iex|sudo|rm -|chmod|base64 -|pip install|npm install)\b.*"
    r"(?:://|\||\s-[a-z]|\.sh\b)",
    re.I | re.S,
)
_SPACED = re.compile(r"(?:\b\w\b[ ._-]+){4,}\w\b")
_BLOB = re.compile(r"\b(?=[a-z0-9+/]*[A-Z])(?=[A-Z0-9+/]*[a-z])(?=[A-Za-z+/]*[0-9])[A-Za-z0-9+/]{40,}={0,2}")
_TOLD_SECRET = re.compile(
    r"\b(?:pass(?:word|phrase|wd|code)?|secret|(?:api|access|private)[ _-]?key|token|credentials?|otp|pin)\b"
    r"\s*(?:is|are|=|:|was)\s*[\"'`]?(?!\b(?:in|kept|stored|read|set|from|not|missing|required|needed|rotated)\b)"
    r"[^\s\"'`]{4,}",
    re.I,
)
# What a model puts before the owner's own words.
_TELLING = "owner user want prefer like ask say said told wish project"
# A model that stops copying says so in the text; so does one that writes about its own answer.
_LEFT_OUT = re.compile(
    r"[\[(<{][^\])>}]*\b(?:unchanged|omitted|truncated|rest|remaining|same as|as before|see above|placeholder"
    r"|continued)\b[^\])>}]*[\])>}]|^\W*$|^(?:\.\.\.|…)|(?:\.\.\.|…)$|\bas an ai\b|\blorem ipsum\b",
    re.I,
)


@lru_cache(maxsize=CACHED)
def stems(text: str) -> frozenset[str]:
    """The content words of `text` without their endings; of compound ones the parts too."""
    found: set[str] = set()
    for word in content_words(text):
        found.add(stem(word))
        found.update(stem(part) for part in re.split(r"[._/@:+-]+", word) if len(part) > 1)
    return frozenset(found)


def stem(word: str) -> str:
    """A word without its ending: `deploys`, `deployed` and `deploying` are one."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def support(text: str, sources: Iterable[str]) -> float:
    """The share of the content words of `text` that its sources hold; 0 for a text without any."""
    words = [stem(word) for word in content_words(text)]
    known = frozenset().union(*map(stems, sources))
    return sum(word in known for word in words) / len(words) if words else 0.0


def values(text: str) -> frozenset[str]:
    """What of a text must not be made up: addresses, paths, files, hashes, dates and numbers, in lower case."""
    found: set[str] = set()
    rest = text
    for pattern in (_URL, _MAIL, _PATH, _DATE, _FILE, _HASH, _NUMBER):
        found.update(match.rstrip(".,;:)/").lower() for match in pattern.findall(rest))
        rest = pattern.sub(" ", rest)
    return frozenset(found - {""}) | (frozenset(content_words(text)) & _SPELLED)


def foreign(text: str, sources: Sequence[str], *, also: Iterable[str] = ()) -> list[str]:
    """The values of `text` that none of its sources holds; `also` are values it may have besides."""
    known = frozenset().union(*map(values, sources), frozenset(also))
    # A path or file may be named within a longer one, or an address; a number never within a longer number.
    whole = " ".join(sources).lower()
    return sorted(
        value
        for value in values(text) - known
        if not (re.search(r"[a-z]", value) and re.search(rf"(?<![\w.-]){re.escape(value)}(?![\w-])", whole))
        or value in _SPELLED
    )


def sentences(text: str) -> list[str]:
    """The sentences of `text`, and what semicolons part."""
    return [one for one in _SENTENCE.split(text) if one]


def turned(text: str, sources: Sequence[str]) -> bool:
    """Whether a sentence of `text` says no where the one it comes from says yes, or the other way round."""
    near = [(one, nearest(one, sources)) for one in sentences(text)]
    return any(bool(said) and denies(one) != denies(said) for one, said in near)


def denies(text: str) -> bool:
    """Whether `text` says that something is not so."""
    return _NEGATIONS.search(text) is not None


def nearest(text: str, sources: Sequence[str]) -> str:
    """The sentence of `sources` that has most words of `text`, the shorter of equal ones; empty = there is none."""
    words = stems(text)
    said = [one for source in sources for one in sentences(source)]
    return max(said, key=lambda one: (len(words & stems(one)), -len(stems(one))), default="")


def orders(text: str) -> str:
    """The words of `text` that tell somebody what to do, or hide what they say; empty = it only states."""
    shown = unicodedata.normalize("NFKC", text)
    for pattern in (_ORDER, _IMPERATIVE, _REACHES_OUT, _SPACED, _BLOB):
        if found := pattern.search(shown):
            return found[0].strip()[:60]
    return norm(shown) or next((word for word in re.findall(r"\w+", shown) if len(_scripts(word)) > 1), "")


def unsaid(text: str, sources: Sequence[str]) -> list[str]:
    """The content words of `text` that no source says in this order, those apart that only tell whose wish it is.

    The order counts, and questions do not: any wish can be put together from enough words.
    """
    said = [" ".join(one for one in sentences(source) if not one.rstrip().endswith("?")) for source in sources]
    return min((_out_of_order(text, one) for one in (*said, " ".join(said))), key=len)


def asserted(text: str) -> str:
    """What somebody's words say is so: without the sentences that only ask, or wonder.

    "Can you remember that the port is 9090?" asks, and says so too.
    """
    kept = [
        one
        for one in sentences(text)
        if _REMINDS.search(one) or not (one.rstrip().endswith("?") or _WONDERS.search(one))
    ]
    return " ".join(kept)


def _out_of_order(text: str, source: str) -> list[str]:
    left = iter(stem_list(source))
    telling = stems(_TELLING)
    return [word for word in stem_list(text) if word not in telling and not any(word == each for each in left)]


def stem_list(text: str) -> list[str]:
    """The stems of a text's words in their order, common words left out."""
    return [stem(word) for word in re.findall(r"\w+", text.casefold()) if word not in STOP_WORDS]


def commands(text: str) -> str:
    """The words of a source that order somebody about, or a command line that reaches out; empty = neither."""
    shown = unicodedata.normalize("NFKC", text)
    for pattern in (_ORDER, _REACHES_OUT):
        if found := pattern.search(shown):
            return found[0].strip()[:60]
    return ""


def secret(text: str) -> str:
    """What kind of secret is in `text`; empty = none that is known."""
    if found := SHAPES.search(text):
        return str(found.lastgroup)
    if PLACEHOLDER.search(text) or "[secret" in text:
        return "a secret's placeholder"
    return "a told secret" if _TOLD_SECRET.search(text) or is_told_secret(text) else ""


def left_out(text: str) -> str:
    """Words that stand for a text instead of being it, such as `[rest unchanged]`; empty = there are none."""
    found = _LEFT_OUT.search(text)
    return (found[0] or "nothing") if found else ""


def _scripts(word: str) -> set[str]:
    names = {unicodedata.name(each, "?").partition(" ")[0] for each in word if each.isalpha()}
    return names & {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "FULLWIDTH", "MATHEMATICAL"}
