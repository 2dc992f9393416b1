"""The house rules as data (docs/architecture.md says why each exists). To widen an exception, change a line here."""

from __future__ import annotations

import re

CODE = ("daemon/", "cli/")  # what the product consists of
SHAPED = (*CODE, "migrations/", "scripts/")  # where the size budgets hold
PYTHON = (*SHAPED, "tests/", "bench/")

FILE_LINES = 400
FUNCTION_LINES = 50
CLASS_LINES = 250
PARAMETERS = 5
POSITIONAL = 2  # besides self and cls; what comes after is keyword-only
COMMENTS_PER_100_LINES = 12
COMMENTS_ALWAYS_ALLOWED = 10

# The only places that may catch everything, each time with its reason on the same line.
BROAD_EXCEPT = ("daemon/kairosd/engine/supervise.py", "daemon/kairosd/engine/gate.py")

# Where bytes enter (JSON, TOML, rows, foreign callbacks): only here may a signature say Any.
ANY_ALLOWED = (
    "daemon/kairosd/config/",
    "daemon/kairosd/wire.py",
    "daemon/kairosd/http/",
    "daemon/kairosd/models/",
    "daemon/kairosd/store/",
    "daemon/kairosd/executor/",
    "daemon/kairosd/triggers/github.py",
    "cli/kairos_cli/client.py",
)

PURE = "daemon/kairosd/core/"  # no I/O, no await, no clock
IMPURE_MODULES = frozenset(
    {
        "asyncio",
        "http",
        "logging",
        "os",
        "random",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "subprocess",
        "tempfile",
        "threading",
        "time",
    }
)

# Every method of a port carries its promise; elsewhere methods speak by name.
PORTS = "daemon/kairosd/ports/"
# The entry point every adapter module has; its promise is written once, in docs/adding-an-adapter.md.
UNDOCUMENTED_FUNCTIONS = frozenset({"build"})

VAGUE_MODULE = re.compile(r"(^|_)(utils?|helpers?|managers?|handler\d+|misc|common|stuff)$")

# Written so that no pattern matches its own text.
UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X)\b")
LEAKS = (
    (re.compile(r"(?<![\w.~)}\]-])/[w]ork/"), "a path of somebody's workplace"),
    (re.compile(r"/tmp/[r]ig\b|/opt/(?:whee[l]s|pyp[i])\b|\.[l]ibrary\b"), "a path of somebody's workplace"),
    (re.compile(r"\b[f]arm\b", re.IGNORECASE), "the name of a workplace"),
    (
        re.compile(r"\bpyp[i]\.org|\bpythonhoste[d]\.org|\bregistry\.npm[j]s\.|\bcrate[s]\.io", re.IGNORECASE),
        "a package registry's host",
    ),
)
BINARY_SUFFIXES = frozenset({".db", ".gguf", ".gz", ".ico", ".jpg", ".png", ".svg", ".whl", ".zip"})
UNREAD_FILES = ("LICENSE",)
