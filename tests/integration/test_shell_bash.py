"""Lines that we accept, run by bash itself with a dumper in place of every program: it starts what the plan says."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from tests.shell_lines import EXAMPLES, Bash, grouped, lines, noise
from tests.unit.test_shell_syntax import PLAIN

from kairosd.core.shell.syntax import read_line
from kairosd.errors import ShellFormError

quick = settings(
    max_examples=EXAMPLES or 30,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Bash:
    return Bash.make(tmp_path_factory.mktemp("bash"))


def check(bash: Bash, line: str) -> bool:
    """Whether the line is plain; if it is, bash starts exactly what the plan says."""
    try:
        plan = read_line(line)
    except ShellFormError:
        return False
    if any("/" in command.argv[0] for command, _ in plan.commands):
        return True  # a path is looked up, so no dumper stands in for it
    groups, ended = bash.expected(plan)
    expected = [sorted(group) for group in groups if group]
    found = grouped(bash.run(line), groups)
    assert (found[: len(expected)] if ended else found) == expected
    return True


@pytest.mark.parametrize("line", PLAIN)
def test_bash_runs_what_the_plan_says(bash: Bash, line: str) -> None:
    assert check(bash, line)


@quick
@given(line=lines())
def test_bash_starts_exactly_the_programs_of_every_accepted_line(bash: Bash, line: str) -> None:
    check(bash, line)


@quick
@given(line=noise)
def test_no_noise_is_accepted_and_read_otherwise_by_bash(bash: Bash, line: str) -> None:
    check(bash, line)
