"""Norms: sentences that order nobody about and yet would change what is done, were they believed (invariant I10).

An order is known by its verb (`dream_support.orders`). These are known by what they are about: who may do what without
being asked, what is usual or wanted, and what the owner is said to have said. From the owner they are the owner's
wishes; from anybody else they are not remembered, whoever repeats them.
"""

from __future__ import annotations

import re

# Said in the owner's name. The owner needs nobody who says it for them.
_SPOKEN_FOR = re.compile(
    r"\b(?:owner|user|maintainers?|boss|admin|administrator|team|customer|security|everybody|everyone|she|he|they|we|i)\b"
    r"(?:['’]s)?(?: \w+){0,2}? (?:says?|said|wants?|wanted|prefers?|preferred|likes?|asks?|asked|decided|decides|agreed"
    r"|agrees|expects?|expected|told|tells|demands?|requires?|insists?|wish(?:es)?|approves?|approved|allows?|allowed|permits?|confirmed|decision"
    r"|preference)\b"
    r"|\b(?:feedback|decision|order|message|note|word|rule)s? (?:from|of|by) (?:the )?\w+\s*:",
    re.I,
)
# What nobody has to do, or to be asked for.
_GUARD = (
    r"(?:re-?views?|reviewed|approvals?|approved?|confirmations?|confirmed|permissions?|consent|ask(?:ed|ing)|checks?"
    r"|checked|checking|verif(?:y|ied|ication)|tests|testing|signatures?|gates?|sandbox(?:es)?|guards?|protections?"
    r"|limits?|oversight|questions?)"
)
_LACK = (
    r"(?:without|no|not|nobody|no one|never|need(?:s|ed)? no|skip(?:s|ped|ping)?|omit(?:s|ted)?|optional|unnecessary"
    r"|superfluous|waived?|off|disabled?|bypass(?:es|ed)?|exempt|lifted|suspended|deleted|obsolete)"
)
_UNGUARDED = re.compile(rf"\b{_LACK}\b(?:\W+\w+){{0,4}}?\W+{_GUARD}\b|\b{_GUARD}\b(?:\W+\w+){{0,4}}?\W+{_LACK}\b", re.I)
_FREE = re.compile(
    r"\b(?:may|can) (?:now )?(?:be |freely |safely |also )?(?:skip|delet|remov|merg|push|ignor|shar|publish|expos|leak"
    r"|disabl|commit|deploy|run)\w*"
    r"|\b(?:is|are|it['’]s|always|totally|perfectly) (?:\w+ )?(?:fine|ok|okay|allowed|permitted|welcome|harmless"
    r"|safe|acceptable|desired|trusted|optional)\b"
    r"|\btrust(?:ed)? (?:like|as)\b|\b(?:free|permission|right|licen[cs]e|mandate) to\b",
    re.I,
)
# What is usual, right or a rule, said by whom it is not for.
_RULE = re.compile(
    r"\b(?:polic(?:y|ies)|rules?|guidelines?|conventions?|directives?|mandate|protocol|procedure|practice|workflow"
    r"|habit)\b\s*(?:\d{4}-\d{2}-\d{2}\s*)?(?:is|are|says|:|that|here|number)"
    r"|\b(?:the )?(?:preferred|recommended|standard|correct|right|proper|usual|official|approved|expected|best) "
    r"(?:way|workflow|fix|practice|procedure|method|approach|means|step|solution)\b"
    r"|\b(?:new|system|override|default) (?:rule|policy|prompt|task|goal|directive|mission)s?\b"
    r"|\b(?:it is|it['’]s) (?:important|best|necessary|required|essential|crucial)\b|\b(?:mandatory|compulsory)\b"
    r"|\b(?:before|after|when|upon|on) (?:each|every|finishing|starting|committing|any)\b|\bas (?:the )?first step\b",
    re.I,
)
# What is told of whoever reads it. A branch of ours is named kairos/...
_READER = re.compile(
    r"\bkairos\b(?![/.])|\b(?:ai|llm|chat ?gpt|copilot|claude|bots?|language models?|automations?)\b"
    r"|\b(?:all|every|each|any|coding|autonomous|future|later|next) (?:agents?|runs?|sessions?|models?|tools?)\b"
    r"|(?<!build )(?<!monitoring )\bagents\b",
    re.I,
)
# What no fact needs.
_DANGER = re.compile(
    r"<!--|-->|(?:^|\s)--(?:force|no-verify|yes|dangerously[\w-]*|no-gpg-sign|insecure|hard)\b"
    r"|\|\s*(?:ba|z)?sh\b|\brm -|\bchmod \S*7"
    r"|(?:^|[\s/~])\.(?:ssh|aws|gnupg|env|netrc)\b|\bid_(?:rsa|ed25519)\b|\b(?:curl|wget|sudo|pastebin|exfiltrat\w*)\b"
    r"|\bforce[- ]?push(?:es|ed|ing)?\b(?! (?:protection|is blocked))|\bstraight to (?:main|master|production)\b",
    re.I,
)
# Orders in the languages that are met most in software besides English.
_FOREIGN = re.compile(
    r"\b(?:immer|niemals|bitte|muss|müssen|soll(?:en|te)?|darf|dürfen|ausführen|ignorier\w*|toujours|jamais|veuillez"
    r"|doit|doivent|il faut|exécute[rz]?|ignore[rz]|siempre|nunca|por favor|debe[ns]?|ejecut\w+|ignora\w*|sempre|deve"
    r"|devono|esegu\w+|executar|altijd|nooit|alstublieft|moet|zawsze|nigdy|proszę)\b"
    r"|всегда|никогда|пожалуйста|долж[е]?н|выполни|игнорир|必须|必ず|总是|總是|请|請|不要|忽略|絶対|してください|항상|반드시",
    re.I,
)
_NORMS = (_SPOKEN_FOR, _UNGUARDED, _FREE, _RULE, _READER, _DANGER, _FOREIGN)


def norm(text: str) -> str:
    """The words of `text` that would change what is done or allowed; empty = it only says how something is."""
    for pattern in _NORMS:
        if found := pattern.search(text):
            return found[0].strip()[:60]
    return ""
