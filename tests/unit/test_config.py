"""The configuration: what is accepted, what is refused and how that is said, and that the example file is true."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from datetime import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from kairosd import config as configuration
from kairosd.config import Config, api_key, describe, every_seconds, load, read_environment, read_secret
from kairosd.config import sections as section_models
from kairosd.config.budget import describe_caps
from kairosd.config.choice import HOSTED, KEYS, LOCAL_SHA256, LOCAL_URLS
from kairosd.config.editing import edit_level
from kairosd.config.folders import origin_of
from kairosd.config.rules import prefix_of, read_narrowing
from kairosd.core.budget import DAY, DEFAULT_CAPS, HOUR, Cap, Purse
from kairosd.core.levels import Level, Ruling
from kairosd.core.paths import PROTECTED_PATHS
from kairosd.core.policy import Policy, Rule
from kairosd.errors import ConfigError, NotFoundError, UsageError
from kairosd.models.prices import load_prices
from kairosd.wire import Home

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
SECRET = "sixteen bytes or more"
FALLBACK = '[models.a]\nprovider = "local"\n'  # a model, where a test is not about models


@pytest.fixture
def place(tmp_path: Path) -> Home:
    root = tmp_path / "home"
    return Home(root / "config.toml", root / "state", data=root / "data", run=root / "run", is_default=False)


@pytest.fixture
def write(place: Home) -> Any:
    def writing(text: str, **variables: str) -> Config:
        place.config.parent.mkdir(mode=0o700, exist_ok=True)
        place.config.write_text(text, "utf-8")
        return load(None, folder=place.config.parent, place=place, environment=variables)

    return writing


@pytest.fixture
def refused(write: Any, place: Home) -> Any:
    """The problems of a text, without the file's name: `LINE: [section] key: problem`."""

    def refusing(text: str, **variables: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            write(text, **variables)
        assert caught.value.exit_code == 78
        return [line.removeprefix(f"{place.config}:") for line in str(caught.value).splitlines()]

    return refusing


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


# What is there without a word from the owner.


def test_without_a_file_the_checkout_of_the_current_folder_is_watched(tmp_path: Path, place: Home) -> None:
    repository = tmp_path / "engine"
    (repository / "src" / "deep").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", repository], check=True)
    url = "git@forge.example:ada/engine.git"
    subprocess.run(["git", "-C", repository, "remote", "add", "origin", url], check=True)
    config = load(None, folder=repository / "src" / "deep", place=place, environment={})
    assert [(each.name, each.path, each.repo) for each in config.workspaces] == [("engine", repository, "ada/engine")]
    assert config.path is None
    assert config.github is None
    assert list(config.notifiers) == ["log"]
    config.demand_workspace()


def test_without_a_file_a_plain_folder_is_watched_and_root_is_not(tmp_path: Path, place: Home) -> None:
    plain = tmp_path / "my notes"
    plain.mkdir()
    assert [each.name for each in load(None, folder=plain, place=place, environment={}).workspaces] == ["my-notes"]
    config = load(None, folder=Path("/"), place=place, environment={})
    assert config.workspaces == ()
    with pytest.raises(ConfigError, match="cannot be a workspace"):
        config.demand_workspace()


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_a_key_in_the_environment_chooses_its_provider(kind: str, tmp_path: Path, place: Home) -> None:
    environment = read_environment({KEYS[kind]: "the key"})
    config = load(None, folder=tmp_path / "x", place=place, environment=environment)
    quick, strong = HOSTED[kind]
    assert config.models[config.roles.decide].model == quick
    assert config.models[config.roles.act].model == config.models[config.roles.dream].model == strong
    assert api_key(config.models[config.roles.act], environment) == "the key"
    assert {quick, strong} <= set(load_prices())


def test_without_anything_the_embedded_model_is_the_default(tmp_path: Path, place: Home) -> None:
    config = load(None, folder=tmp_path / "x", place=place, environment={})
    local = config.models["local"]
    assert (local.provider, local.context, local.tool_style) == ("local", 8192, "schema")
    assert (local.sha256, local.url) == (LOCAL_SHA256, LOCAL_URLS)
    assert Path(local.file).parent == place.models


def test_an_owners_own_local_file_gets_no_foreign_hash(write: Any) -> None:
    config = write('[models.mine]\nprovider = "local"\nfile = "mine.gguf"\ncontext = 4096\n')
    mine = config.models["mine"]
    assert (mine.sha256, mine.url, mine.context, mine.tool_style) == ("", (), 4096, "schema")


# Every refusal with its line and the nearest key.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n[tikc]\n", '2: [tikc]: unknown section; did you mean "tick"?'),
        ("[tick]\n\nmin_secnds = 3\n", '3: [tick] min_secnds: unknown key; did you mean "min_seconds"?'),
        ("[git]\nzzz = 1\n", "2: [git] zzz: unknown key; known here: name, email"),
        ("[tick]\nenabled = 1\n", "2: [tick] enabled: must be true or false, not a number"),
        ('[tick]\nmin_seconds = "5"\n', "2: [tick] min_seconds: must be a whole number, not text"),
        ("[tick]\nmin_seconds = 0\n", "2: [tick] min_seconds: must be at least 1"),
        ("[tick]\nmin_seconds = 9\nmax_seconds = 8\n", "2: [tick] min_seconds: is more than max_seconds (8)"),
        ("[workspaces]\n", "1: [workspaces]: must be a list of tables: write [[workspaces]]"),
        (
            '[initiative]\nmode = "shdow"\n',
            '2: [initiative] mode: must be one of "on", "shadow" or "off"; did you mean "shadow"?',
        ),
        (
            '[daemon]\nhooks_listen = "8787"\n',
            '2: [daemon] hooks_listen: must be host:port, such as "127.0.0.1:8787" or "[::1]:8787"',
        ),
        ('[roles]\nact = "aa"\n', '2: [roles] act: there is no such model; did you mean "a"?'),
        ("[webhooks.gitub]\n", '1: [webhooks.gitub]: unknown section; did you mean "github"?'),
        ('[notifiers.nfty]\ntopic = "x"\n', '1: [notifiers.nfty]: unknown notifier; did you mean "ntfy"?'),
        ("[notifiers.ntfy]\n", "1: [notifiers.ntfy] topic: is required"),
        ('[quiet_hours]\nstart = "25:00"\nend = "07:00"\n', '2: [quiet_hours] start: must be a time such as "22:30"'),
        ('[quiet_hours]\nstart = "07:00"\n', '1: [quiet_hours] end: must be a time such as "22:30"'),
        (
            '[[policy.rules]]\nverdict = "ask"\n[[policy.rules]]\nverdict = "alow"\n',
            '4: [[policy.rules]] verdict: must be one of "allow", "ask" or "deny"; did you mean "allow"?',
        ),
        (
            '[policy]\nallow = [\n "git status",\n "",\n]\n',
            '2: [policy] allow: is empty: name the beginning of a command, such as "git status"',
        ),
        (
            '[policy]\ndeny = ["rm -rf *"]\n',
            "2: [policy] deny: holds *: rules are plain words, compared with the decoded words of a command",
        ),
        (
            '[[policy.rules]]\nverdict = "deny"\nargv = "git \'push\'"\n',
            "3: [[policy.rules]] argv: holds ': rules are plain words, compared with the decoded words of a command",
        ),
        (
            '[[workspaces]]\npath = "engine"\nlevel = "open"\n',
            "3: [[workspaces]] level: open is set for the daemon's life: kairos workspace set-level NAME open",
        ),
        (
            '[[workspaces]]\npath = "engine"\nlevel = "sandbox"\n',
            '3: [[workspaces]] level: must be one of "observe", "suggest", "sandboxed" or "project"; '
            'did you mean "sandboxed"?',
        ),
        (
            '[[policy.rules]]\nverdict = "ask"\npaths = "x"\n',
            '3: [[policy.rules]] paths: unknown key; did you mean "path"?',
        ),
        (
            "[policy]\nsecret_paths = [\n 'a',\n 3,\n]\n",
            "2: [policy] secret_paths: must be text in quotes, not a number",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_line_key_and_fix(refused: Any, text: str, expected: str) -> None:
    line = int(expected.partition(":")[0])
    shifted = f"{line + 2}:{expected.partition(':')[2]}"
    assert refused(FALLBACK + text)[0] == shifted


def test_a_syntax_error_names_file_and_line(refused: Any) -> None:
    assert refused('[git]\nname = "a\n')[0].startswith("2: not TOML: ")


def test_a_value_where_a_section_belongs_is_refused(refused: Any) -> None:
    assert refused(f"tick = 3\n{FALLBACK}") == ["1: [tick]: must be a table, not a number"]


def test_every_problem_is_told_at_once_in_the_files_order(refused: Any) -> None:
    text = 'tick = 1\n[models.a]\nprovider = "lokal"\n[git]\nnam = "x"\n[daemon]\nhooks_listen = "x"\nfoo = 1\n'
    assert [problem.partition(":")[0] for problem in refused(text)] == ["1", "3", "5", "7", "8"]


def test_a_named_file_must_be_there(place: Home, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml", folder=tmp_path, place=place, environment={})


# Models.


MODEL = '[models.{0}]\nprovider = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:1/v1"\n'


def test_roles_are_resolved_and_demanded_where_there_is_a_choice(write: Any, refused: Any) -> None:
    assert write(MODEL.format("one")).roles.model_dump() == dict.fromkeys(("decide", "act", "dream", "escalate"), "one")
    two = MODEL.format("one") + MODEL.format("two")
    assert refused(two)[0] == "1: [roles] decide: say which model does this: one of one, two"
    roles = write(two + '[roles]\ndecide = "one"\nact = "two"\n').roles
    assert (roles.dream, roles.escalate) == ("two", "two")
    assert write(two + '[roles]\ndecide = "one"\nact = "one"\nescalate = "two"\n').roles.escalate == "two"
    wrong = '[roles]\ndecide = "one"\nact = "one"\nescalate = "twp"\n'
    assert refused(two + wrong)[0].endswith('[roles] escalate: there is no such model; did you mean "two"?')


def test_triggers_have_modes_and_a_mistyped_one_is_no_silent_on(write: Any, refused: Any) -> None:
    modes = write('[initiative]\nmode = "shadow"\n[initiative.triggers]\nfiles = "on"\n').initiative.triggers
    assert (modes.files, modes.webhook) == ("on", "")
    (line,) = refused('[initiative.triggers]\nwebook = "shadow"\n')
    assert line == '2: [initiative.triggers] webook: unknown key; did you mean "webhook"?'
    (line,) = refused('[initiative.triggers]\nwebhook = "off"\n')
    assert line.startswith("2: [initiative.triggers] webhook: must be one of")


def test_fallbacks_exist_and_end(write: Any, refused: Any) -> None:
    roles = '[roles]\ndecide = "one"\nact = "one"\n'
    chain = MODEL.format("one") + 'fallback = "two"\n' + MODEL.format("two")
    assert write(chain + roles).models["one"].fallback == "two"
    assert "5: [models.one] fallback: goes round in a circle: one -> two -> one" in refused(
        chain + 'fallback = "one"\n' + roles
    )
    assert refused(chain.replace('"two"', '"tow"') + roles)[0].endswith('there is no such model; did you mean "two"?')


def test_a_hosted_model_needs_a_name_and_a_key_that_is_there(write: Any, refused: Any) -> None:
    hosted = '[models.a]\nprovider = "anthropic"\n'
    assert refused(hosted) == [
        "1: [models.a] model: provider anthropic needs the name of a model",
        "1: [models.a]: needs a key: set api_key_env or api_key_file",
    ]
    keyed = hosted + 'model = "m"\napi_key_env = "MY_KEY"\n'
    assert refused(keyed) == ["4: [models.a] api_key_env: the variable it names is not set in Kairos's environment"]
    assert api_key(write(keyed, MY_KEY="k").models["a"], read_environment({"MY_KEY": "k"})) == "k"
    both = keyed + 'api_key_file = "k"\n'
    assert refused(both, MY_KEY="k")[0] == "1: [models.a]: needs only one of api_key_file and api_key_env"


@pytest.mark.parametrize("address", ["example.org", "ftp://example.org", "http://", "http://me:pass@example.org"])
def test_a_bad_address_is_refused_and_not_repeated(refused: Any, address: str) -> None:
    problem = refused(MODEL.format("a").replace("http://127.0.0.1:1/v1", address))[0]
    assert problem.startswith("4: [models.a] base_url: must be an address")
    assert "pass@" not in problem


# Secrets.


def github(key: str, value: str) -> str:
    return f'{FALLBACK}[webhooks.github]\n{key} = "{value}"\n'


def test_a_secret_file_holds_one_secret_a_line_and_never_shows_it(write: Any, place: Home) -> None:
    place.config.parent.mkdir()
    private(place.config.with_name("hook"), f"{SECRET}\n\n  {SECRET} two \n")
    config = write(github("secret_file", "hook"))
    assert config.github_secrets == (SECRET.encode(), f"{SECRET} two".encode())
    assert SECRET not in repr(config)
    assert SECRET not in json.dumps(describe(config))
    assert config.github is not None
    assert config.github.secret_file == str(place.config.with_name("hook"))


def test_the_token_that_every_notice_shows_is_not_kairoses_own(refused: Any, write: Any) -> None:
    section = (
        FALLBACK + '[notifiers.ntfy]\ntopic = "t"\nanswers = "a"\ntoken_env = "OWN"\nanswers_token_env = "SHOWN"\n'
    )
    (problem,) = refused(section, OWN="tk_1", SHOWN="tk_1")
    assert "answers_token_env: must be another token than Kairos's own" in problem
    write(section, OWN="tk_1", SHOWN="tk_2")


def test_secrets_that_are_missing_short_open_or_doubly_named_are_refused(refused: Any, place: Home) -> None:
    place.config.parent.mkdir()
    short = private(place.config.with_name("short"), f"{SECRET}\nfifteen bytes..\n")
    shared = private(place.config.with_name("shared"), SECRET, mode=0o640)
    private(place.config.with_name("empty"), " \n")
    assert refused(github("secret_file", "gone")) == ["4: [webhooks.github] secret_file: there is no such file"]
    assert refused(github("secret_file", "empty")) == ["4: [webhooks.github] secret_file: the file is empty"]
    assert "shorter than 16 bytes" in refused(github("secret_file", short.name))[0]
    assert refused(github("secret_file", "shared"))[0].endswith(f"others may read it — chmod 600 {shared}")
    assert "not set" in refused(github("secret_env", "HOOK"))[0]
    both = refused(github("secret_file", "shared") + 'secret_env = "HOOK"\n')
    assert both == ["3: [webhooks.github]: needs only one of secret_file and secret_env"]
    assert refused(FALLBACK + "[webhooks.github]\n")[0].endswith("needs one of secret_file and secret_env")


def test_a_secret_in_the_wrong_place_is_not_repeated(refused: Any) -> None:
    for key in ("secret_file", "secret_env", "secret"):
        problems = refused(github(key, "hunter2-and-more"))
        assert not any("hunter2" in problem for problem in problems)
    assert refused(github("secret_env", "HUNTER2"), HUNTER2="fifteen bytes..") != []


def test_a_systemd_credential_comes_before_a_file_and_may_show_group_bits(write: Any, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    private(credentials / "hook", SECRET, mode=0o440)
    config = write(github("secret_file", "hook"), CREDENTIALS_DIRECTORY=str(credentials))
    assert config.github_secrets == (SECRET.encode(),)


def test_reading_a_pipe_as_a_secret_does_not_wait(tmp_path: Path) -> None:
    subprocess.run(["mkfifo", "-m", "600", tmp_path / "pipe"], check=True)
    with pytest.raises(ConfigError, match="not a file"):
        read_secret(file=str(tmp_path / "pipe"), environment=read_environment({}))


# Workspaces.


def workspace(path: object, more: str = "") -> str:
    return f'{FALLBACK}[[workspaces]]\npath = "{path}"\n{more}'


def test_a_workspace_is_relative_to_the_file_and_may_be_missing(write: Any, place: Home, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    config = write(workspace("../engine"))
    assert [(each.name, each.path) for each in config.workspaces] == [("engine", tmp_path / "engine")]
    assert config.warnings == ()
    gone = write(workspace("../lost"))
    assert [each.path for each in gone.workspaces] == [tmp_path / "lost"]
    assert gone.warnings == (f"workspace lost is missing: {tmp_path / 'lost'} is not there now",)


def test_folders_that_cannot_be_a_workspace_are_refused(
    refused: Any, place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = tmp_path / "user"
    user.mkdir()
    monkeypatch.setenv("HOME", str(user))
    (tmp_path / "link").symlink_to(user)
    for path in ("/", "~", str(user), str(tmp_path / "link"), str(tmp_path), str(place.state), ".", str(EXAMPLE)):
        assert refused(workspace(path))[0].startswith("4: [[workspaces]] path: "), path


def test_two_workspaces_share_neither_folder_nor_name(write: Any, refused: Any, tmp_path: Path) -> None:
    inner = tmp_path / "engine" / "engine"
    inner.mkdir(parents=True)
    outer = workspace(inner.parent)
    twin = f'[[workspaces]]\npath = "{inner}"\n'
    assert refused(outer + twin) == ['5: [[workspaces]] name: another workspace is called "engine": set a name']
    assert len(write(outer + twin + 'name = "inner"\n').workspaces) == 2
    same = refused(outer + f'[[workspaces]]\npath = "{inner}/.."\nname = "b"\n')
    assert same == ["6: [[workspaces]] path: is the folder of workspace engine too"]


@pytest.mark.parametrize(
    ("url", "repo"),
    [
        ("https://forge.example/ada/engine.git", "ada/engine"),
        ("https://forge.example/ada/engine/", "ada/engine"),
        ("ssh://git@forge.example:22/ada/engine", "ada/engine"),
        ("ada@forge.example:group/ada/engine.git", "ada/engine"),
        ("/srv/git/engine.git", None),
        ("https://forge.example/a b/engine", None),
    ],
)
def test_the_repository_is_that_of_the_remote_origin(tmp_path: Path, url: str, repo: str | None) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "fork", "https://forge.example/x/y"], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", url], check=True)
    assert origin_of(tmp_path) == repo


# Schedules.


SCHEDULE = '{0}[[schedules]]\nname = "n"\ngoal = "g"\n'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('cron = "0 8 * * 1-5"', ""),
        ('cron = "*/5 0,12 1-31/2 jan-mar sat-sun"', ""),
        ('every = "1h30m"', ""),
        ('at = "2027-01-31T09:00"', ""),
        ("at = 2027-01-31T09:00:00", ""),
        ('cron = "0 8 * *"', "must be five fields"),
        ('cron = "60 8 * * *"', "its minute is not understood"),
        ('cron = "0 8 * * 8"', "its day of week is not understood"),
        ('cron = "0 9-8 * * *"', "its hour is not understood"),
        ('cron = "*/0 * * * *"', "its minute is not understood"),
        ('cron = "*/² * * * *"', "its minute is not understood"),
        ('cron = "0 ² * * *"', "its hour is not understood"),
        ('every = "soon"', "must be a span"),
        ('every = "0s"', "must be between"),
        ('at = "tomorrow"', "must be a moment"),
        ('cron = "* * * * *"\nevery = "1d"', "needs exactly one of cron, every and at, not cron and every"),
        ("", "needs exactly one of cron, every and at"),
    ],
)
def test_a_schedule_has_one_form_that_can_be_read(
    write: Any, refused: Any, tmp_path: Path, line: str, problem: str
) -> None:
    text = SCHEDULE.format(workspace(tmp_path / "engine")) + line + "\n"
    if problem:
        assert problem in refused(text)[0]
    else:
        assert write(text).schedules[0].workspace == "engine"


def test_spans_add_up() -> None:
    assert [every_seconds(text) for text in ("90m", "1h30m", "2d", "1s")] == [5400, 5400, 172800, 1]


def test_a_schedule_says_where_and_has_its_own_name(refused: Any, tmp_path: Path) -> None:
    two = workspace(tmp_path / "engine") + f'[[workspaces]]\npath = "{tmp_path}/notes"\n'
    text = SCHEDULE.format(two) + 'every = "1d"\n'
    assert refused(text)[0].endswith("[[schedules]] workspace: say where: one of engine, notes")
    assert refused(text + 'workspace = "engin"\n')[0].endswith('there is no such workspace; did you mean "engine"?')
    named = text + 'workspace = "engine"\n'
    assert any("another schedule" in each for each in refused(named + named.removeprefix(two)))


# What the others read.


def test_policy_and_quiet_hours_become_what_the_core_reads(write: Any) -> None:
    rules = (
        '[policy]\nprotected_paths = ["x/**"]\n[[policy.rules]]\nverdict = "deny"\ntool = "git_*"\npath = "docs/**"\n'
    )
    config = write(FALLBACK + "[quiet_hours]\nstart = 22:00:00\nend = '07:30'\n" + rules)
    assert config.policy.rules == (Rule(Ruling.DENY, "git_*", "docs/**"),)
    assert config.policy.protected_paths == (*PROTECTED_PATHS, "x/**")
    assert config.quiet_hours is not None
    assert (config.quiet_hours.start, config.quiet_hours.end) == (time(22), time(7, 30))


def test_commands_become_words_and_no_allow_is_not_an_empty_one(write: Any) -> None:
    assert write(FALLBACK).policy.allow is None
    assert write(f"{FALLBACK}[policy]\nallow = []\n").policy.allow == ()
    text = (
        '[policy]\nallow = ["git  status", "rg"]\nask = ["git log HEAD~1"]\ndeny = ["rm"]\n'
        '[[policy.rules]]\nverdict = "ask"\ntool = "shell"\nargv = "make install"\n'
    )
    policy = write(FALLBACK + text).policy
    assert policy.allow == (("git", "status"), ("rg",))
    assert (policy.ask, policy.deny) == ((("git", "log", "HEAD~1"),), (("rm",),))
    assert policy.rules == (Rule(Ruling.ASK, "shell", "", ("make", "install")),)
    shown = describe(write(FALLBACK + text))["policy"]
    assert isinstance(shown, dict)
    assert (shown["allow"], shown["ask"], shown["deny"]) == (["git status", "rg"], ["git log HEAD~1"], ["rm"])
    assert "allow" not in describe(write(FALLBACK))["policy"]  # type: ignore[operator]


def test_hosts_are_patterns_and_rules_on_them_stand_alone(write: Any) -> None:
    text = (
        '[policy]\nhosts = ["example.org", "*.example.org:8443", "192.0.2.1"]\n'
        '[[policy.rules]]\nverdict = "deny"\nhost = "*"\n'
        '[[policy.rules]]\nverdict = "ask"\nargv = "make publish"\nhost = "example.org"\n'
    )
    config = write(FALLBACK + text)
    assert config.policy.hosts == ("example.org", "*.example.org:8443", "192.0.2.1")
    assert [rule.host for rule in config.policy.rules] == ["*", "example.org"]
    shown = describe(config)["policy"]
    assert isinstance(shown, dict)
    assert shown["hosts"] == config.policy.hosts
    assert write(FALLBACK).policy.hosts == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[policy]\nhosts = ["https://example.org"]\n', '4: [policy] hosts: "https://example.org" is no host'),
        ('[policy]\nhosts = ["*"]\n', "4: [policy] hosts: would be every host there is"),
        ('[policy]\nhosts = ["127.1"]\n', '4: [policy] hosts: "127.1" is neither a name nor an address'),
        ('[[policy.rules]]\nverdict = "allow"\nhost = "*"\n', "would be every host there is"),
        ('[[policy.rules]]\nverdict = "ask"\nhost = "a.test"\n', "name with argv the command"),
        ('[[policy.rules]]\nverdict = "deny"\nhost = "a.test"\npath = "x"\n', "leave tool and path out"),
        (
            '[[policy.rules]]\nverdict = "deny"\nargv = "make"\ntool = "read"\n',
            "6: [[policy.rules]] tool: argv is about",
        ),
    ],
)
def test_a_rule_that_could_not_mean_what_it_says_is_refused(refused: Any, text: str, problem: str) -> None:
    (found,) = refused(FALLBACK + text)
    assert problem in found


@pytest.mark.parametrize(
    "text", ["", " ", "a 'b'", "a $B", "a;b", "a|b", "~/x", "a *", "A=1 b", "a\nb", "a\u2028b", "[a]"]
)
def test_what_is_more_than_plain_words_is_no_beginning_of_a_command(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        prefix_of(text)


@pytest.mark.parametrize(
    "prefix", ["env", "/usr/bin/env", "xargs ls", "bash -c", "sudo", "find . -exec", "python -c", "perl -e", "ssh host"]
)
def test_what_starts_anything_cannot_be_allowed(refused: Any, prefix: str) -> None:
    (problem,) = refused(f'{FALLBACK}[policy]\nallow = ["{prefix}"]\n')
    assert problem.startswith(f"4: [policy] allow: {prefix} starts whatever its arguments say")
    (problem,) = refused(f'{FALLBACK}[[policy.rules]]\nverdict = "allow"\nargv = "{prefix}"\n')
    assert "[[policy.rules]] argv: " in problem


@pytest.mark.parametrize(
    "prefix", ["find", "git", "python", "python -m", "python -m pytest", "npm test", "make", "terraform plan"]
)
def test_what_has_a_harmless_use_can_be_allowed(write: Any, prefix: str) -> None:
    text = f'{FALLBACK}[policy]\nallow = ["{prefix}"]\ndeny = ["env", "bash -c"]\n'
    assert write(text).policy.allow == (tuple(prefix.split()),)


def test_the_levels_of_a_workspace(write: Any, tmp_path: Path) -> None:
    for level in (Level.OBSERVE, Level.SUGGEST, Level.SANDBOXED, Level.PROJECT):
        (found,) = write(workspace(tmp_path / "engine", f'level = "{level.label}"\n')).workspaces
        assert found.level is level


# What a workspace says of itself.


def test_a_workspaces_own_file_can_only_narrow() -> None:
    text = b"""[policy]
ask = ["make"]
deny = ["git push"]
secret_paths = ["keys/**"]
protected_paths = ["ci/**"]
[[policy.rules]]
verdict = "deny"
tool = "write"
path = "docs/**"
"""
    found = read_narrowing(text, Path(".kairos.toml"))
    assert found == Policy(
        rules=(Rule(Ruling.DENY, "write", "docs/**"),), ask=(("make",),), deny=(("git", "push"),),
        secret_paths=("keys/**",), protected_paths=("ci/**",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[policy", ".kairos.toml:1: not TOML"),
        (b'\xff = "x"', "not UTF-8"),
        (b'[policy]\nallow = ["ls"]\n', ".kairos.toml:2: [policy] allow: unknown key"),
        (b'[policy]\ndeny = [""]\n', ".kairos.toml:2: [policy] deny: is empty"),
        (b"[policy]\napproval_expires_seconds = 5\n", "unknown key"),
        (b'[[policy.rules]]\nverdict = "allow"\n', '[[policy.rules]] verdict: must be one of "ask" or "deny"'),
        (b'[[workspaces]]\npath = "/"\n', "unknown section"),
    ],
)
def test_a_workspaces_own_file_cannot_widen(text: bytes, problem: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read_narrowing(text, Path(".kairos.toml"))
    assert problem in str(refusal.value)


# Changing the file.


def test_a_level_is_written_into_its_own_table_and_nothing_else_is_touched(
    write: Any, place: Home, tmp_path: Path
) -> None:
    text = (
        f'# mine\n{FALLBACK}[[workspaces]]\npath = "{tmp_path}/one"\n'
        f'[[workspaces]]\npath = "{tmp_path}/two"\nlevel = "suggest"  # for now\n'
    )
    config = write(text)
    edit_level(config, place, name="two", level=Level.PROJECT)
    assert place.config.read_text() == text.replace('"suggest"', '"project"')
    edit_level(config, place, name="two", level=Level.SUGGEST)
    edit_level(config, place, name="one", level=Level.OBSERVE)
    changed = text.replace("[[workspaces]]\n", '[[workspaces]]\nlevel = "observe"\n', 1)
    assert place.config.read_text() == changed
    assert [one.level for one in write(changed).workspaces] == [Level.OBSERVE, Level.SUGGEST]


def test_a_level_that_cannot_be_placed_leaves_the_file_as_it_was(write: Any, place: Home, tmp_path: Path) -> None:
    text = f'{FALLBACK}[[workspaces]]\npath = "{tmp_path}/one"\nignore = [\n"""\nlevel = "x"\n"""]\n'
    config = write(text)
    with pytest.raises(UsageError, match="by hand"):
        edit_level(config, place, name="one", level=Level.PROJECT)
    with pytest.raises(NotFoundError):
        edit_level(config, place, name="two", level=Level.PROJECT)
    assert place.config.read_text() == text
    config = write(plain := workspace(tmp_path / "one"))
    with pytest.raises(ConfigError, match="open is set"):
        edit_level(config, place, name="one", level=Level.OPEN)
    assert place.config.read_text() == plain


def test_the_digest_follows_what_is_in_effect_and_not_the_secrets(write: Any) -> None:
    text = github("secret_env", "HOOK")
    first = write(text, HOOK=SECRET)
    assert write(f"# a comment\n{text}", HOOK=f"{SECRET} another").digest == first.digest
    assert write(f"{text}[tick]\nmin_seconds = 299\n", HOOK=SECRET).digest != first.digest


def test_the_environment_is_read_once_and_keeps_passwords_out_of_sight() -> None:
    given = {"HTTPS_PROXY": "http://me:hush@p:1", "no_proxy": "a, .b", "NOTIFY_SOCKET": "@x", "SSL_CERT_FILE": "/ca"}
    environment = read_environment(given)
    assert environment.https_proxy == "http://me:hush@p:1"
    assert environment.no_proxy == ("a", ".b")
    assert (environment.notify_socket, environment.ssl_cert_file) == ("@x", "/ca")
    assert "hush" not in repr(environment)


# The example.


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=\[|[a-z_0-9]+ = )", "", EXAMPLE.read_text("utf-8"))


def kinds() -> dict[str, tuple[type[BaseModel], dict[str, Any]]]:
    """Each kind of table in the example: its model, and all the keys that tables of this kind show."""
    data = tomllib.loads(uncommented())
    flat = {
        **{name: [value] for name, value in data.items() if isinstance(value, dict)},
        "models": list(data["models"].values()), "workspaces": data["workspaces"], "schedules": data["schedules"],
        "github": [data["webhooks"]["github"]], **{name: [table] for name, table in data["notifiers"].items()},
        "rule": data["policy"].pop("rules"), "purse": list(data["budget"].values()),
        "triggers": [data["initiative"].pop("triggers")],
    }  # fmt: skip
    models = {
        name.removesuffix("Section").lower(): kind
        for name, kind in vars(section_models).items()
        if name.endswith("Section") and name not in ("Section", "OpenSection")
    }
    models = {"model": models.pop("model"), **models}
    titles = {"model": "models", "workspace": "workspaces", "schedule": "schedules", "quiethours": "quiet_hours"}
    shown: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {}
    for name, kind in models.items():
        merged: dict[str, Any] = {}
        for table in reversed(flat[titles.get(name, name)]):
            merged.update(table)
        shown[name] = (kind, merged)
    return shown


def test_the_example_says_nothing_until_it_is_uncommented() -> None:
    assert tomllib.loads(EXAMPLE.read_text("utf-8")) == {}


@pytest.mark.parametrize("name", sorted(kinds()))
def test_the_example_shows_every_key_with_its_default(name: str) -> None:
    kind, shown = kinds()[name]
    assert set(shown) == set(kind.model_fields) - {"policy": {"rules"}, "initiative": {"triggers"}}.get(name, set())
    examples = {
        "model": {"provider", "model", "api_key_env", "fallback"},
        "roles": {"decide", "act"},
        "schedule": {"name", "cron", "goal"},
        "workspace": {"path"},
        "github": {"secret_file"},
        "ntfy": {"topic"},
        "rule": {"verdict"},
        "policy": {"allow"},
        "purse": set(shown),  # each purse has its own defaults
    }.get(name, set())
    for key, value in shown.items():
        default = kind.model_fields[key].default
        expected = list(default) if isinstance(default, tuple) else default
        assert key in examples or value == expected, f"{key} = {value!r} is not the default {expected!r}"


def test_the_example_shows_every_purse_with_its_defaults() -> None:
    shown = tomllib.loads(uncommented())["budget"]
    assert shown == {purse.value: describe_caps(caps) for purse, caps in DEFAULT_CAPS.items()}


def test_the_example_loads_as_a_whole(write: Any, place: Home) -> None:
    place.config.parent.mkdir()
    private(place.config.with_name("github-webhook.secret"), SECRET)
    config = write(uncommented(), ANTHROPIC_API_KEY="k")
    assert list(config.notifiers) == ["log", "ntfy", "desktop"]
    assert config.schedules[0].workspace == "engine"


@pytest.mark.parametrize(
    ("written", "micro"),
    [("2.5", 2_500_000), ("0.1", 100_000), ("0.000001", 1), ("0", 0), ("3", 3_000_000), ('"1.234567"', 1_234_567)],
)
def test_dollars_are_read_to_the_micro_dollar(write: Any, written: str, micro: int) -> None:
    config = write(f"{FALLBACK}[budget.tick]\ndollars_per_hour = {written}\ntokens_per_day = 5\n")
    tick = DEFAULT_CAPS[Purse.TICK]
    assert config.budget[Purse.TICK] == (Cap(HOUR, micro, tick[0].tokens), Cap(DAY, tick[1].price, 5))
    assert {purse: caps for purse, caps in config.budget.items() if purse is not Purse.TICK} == {
        purse: caps for purse, caps in DEFAULT_CAPS.items() if purse is not Purse.TICK
    }
    again = describe(config)["budget"]["tick"]["dollars_per_hour"]  # type: ignore[index, call-overload]
    assert (
        write(f"{FALLBACK}[budget.tick]\ndollars_per_hour = {json.dumps(again)}\n").budget[Purse.TICK][0].price == micro
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[budget.tick]\ndollars_per_hour = 0.0000001",
            "4: [budget.tick] dollars_per_hour: must have at most six decimals",
        ),
        (
            "[budget.tick]\ndollars_per_day = -1",
            "4: [budget.tick] dollars_per_day: must be between 0 and a million dollars",
        ),
        ("[budget.tick]\ndollars_per_day = nan", "must be between 0 and a million dollars"),
        ("[budget.tick]\ndollars_per_day = true", "must be a number of dollars"),
        (
            "[budget.tick]\ntokens_per_hour = 1.5",
            "[budget.tick] tokens_per_hour: must be a whole number, not a fraction",
        ),
        ("[budget.tick]\ntoken_per_hour = 1", 'unknown key; did you mean "tokens_per_hour"?'),
        ("[budget.ticks]\ntokens_per_hour = 1", 'unknown purse; did you mean "tick"?'),
        ("[limits]\nrun_tokens = 10", "4: [limits] run_tokens: must be at least 1000"),
    ],
)
def test_what_is_wrong_with_a_budget_is_said(refused: Any, text: str, expected: str) -> None:
    (problem,) = refused(f"{FALLBACK}{text}\n")
    assert expected in problem


def test_the_reference_names_every_key() -> None:
    reference = (EXAMPLE.parent / "docs" / "configuration.md").read_text("utf-8")
    for name, (kind, _) in kinds().items():
        missing = [key for key in kind.model_fields if f"`{key}`" not in reference]
        assert not missing, f"docs/configuration.md does not name {missing} of {name}"


def test_all_that_others_import_is_there() -> None:
    assert all(hasattr(configuration, name) for name in configuration.__all__)
