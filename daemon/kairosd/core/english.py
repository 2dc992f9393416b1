"""English, as far as a search needs it: words that say nothing, and forms that no stemmer brings together.

Porter's stemmer, which the index uses, joins `deploys` and `deployed`, and cannot know that `went` is `go`.
"""

from __future__ import annotations

import re

_STOPS = """
    a about after all also am an and any are as at be because been before being both but by can could did do does during
    each few for from further get got had has have having he her hers him his how i if in into is it its just kind like
    many me more most much my no not of on or our out she should so some such than that the their them then there these
    they this those to too up us was we were what when where which while who whom whose why will with would you your
"""
_FORMS = """
    be am is are was were been being/go goes went gone/do does did done/have has had/buy bought/bring brought
    think thought/catch caught/teach taught/fight fought/seek sought/get got gotten/forget forgot forgotten
    give gave given/take took taken/make made/come came/become became/see saw seen/say said/tell told/sell sold
    find found/feel felt/keep kept/leave left/lose lost/meet met/pay paid/run ran/sit sat/stand stood
    understand understood/send sent/spend spent/build built/lend lent/sleep slept/speak spoke spoken
    break broke broken/choose chose chosen/steal stole stolen/wake woke woken/write wrote written
    rewrite rewrote rewritten/drive drove driven/ride rode ridden/rise rose risen/eat ate eaten
    fall fell fallen/fly flew flown/grow grew grown/know knew known/throw threw thrown/draw drew drawn
    show shown/begin began begun/drink drank drunk/ring rang rung/sing sang sung/swim swam swum/sink sank sunk
    win won/wear wore worn/tear tore torn/bear bore born borne/swear swore sworn/hide hid hidden
    bite bit bitten/hold held/hang hung/hear heard/dig dug/stick stuck/strike struck/swing swung/shoot shot
    shine shone/light lit/lie lain/lead led/feed fed/bleed bled/breed bred/deal dealt/mean meant/dream dreamt
    learn learnt/burn burnt/spell spelt/bind bound/wind wound/grind ground/freeze froze frozen
    forgive forgave forgiven/shake shook shaken/mistake mistook mistaken/undertake undertook undertaken
    overwrite overwrote overwritten/undo undid undone/redo redid redone/rebuild rebuilt/resend resent
    withdraw withdrew withdrawn/child children/man men/woman women/person people/foot feet/tooth teeth
    mouse mice/goose geese/wife wives/life lives/knife knives/leaf leaves/half halves/shelf shelves
    index indices indexes/matrix matrices/good better best/bad worse worst
"""

_TELLING = """
    describe describes described describing discuss discusses discussed discussing mention mentions mentioned mentioning
    say says said saying tell tells told telling
"""  # what somebody said of the port is about the port

STOP_WORDS = frozenset(f"{_STOPS} {_TELLING}".split())
_BASES = {form: line.split()[0] for line in re.split(r"[/\n]", _FORMS) for form in line.split()[1:]}
_WORD = re.compile(r"[^\W_]+")
_FIRST_PERSON = re.compile(r"\b(?:I|(?i:me|my|mine|myself|we|our|ours)|us)\b")
_ENDINGS = re.compile(r"\b\w+n['’]t\b|['’](?:d|ll|m|re|s|ve)\b", re.IGNORECASE)  # `Ann's` asks nothing about an s
_BLANKS = {char: " " for char in range(128) if not chr(char).isalnum()}


def based(text: str) -> str:
    """`text` with irregular forms as the word they come from; everything else stays as it is."""
    lower = text.lower()
    words = lower.translate(_BLANKS).split() if lower.isascii() else _WORD.findall(lower)
    if _BASES.keys().isdisjoint(words):  # most texts hold none, and this is sooner said
        return text
    return _WORD.sub(lambda found: _BASES.get(found[0].lower(), found[0]), text)


def asking_words(question: str) -> tuple[str, ...]:
    """The words a question is about, in lower case, each once; of one made of stop words alone, all of them."""
    words = _WORD.findall(_ENDINGS.sub(" ", question).lower())
    kept = [_BASES.get(word, word) for word in words if word not in STOP_WORDS]
    return tuple(dict.fromkeys([word for word in kept if word not in STOP_WORDS] or _WORD.findall(question.lower())))


def tells_of_oneself(text: str) -> bool:
    """Whether somebody speaks of himself, or of himself and others: `I moved the database`, `our port is 9090`."""
    return _FIRST_PERSON.search(text) is not None
