"""What commands show and say that a run was not meant to learn, or that bash would say otherwise."""

from __future__ import annotations

import pytest
from tests.integration.test_commands import World, files, world

__all__ = ["files", "world"]  # fixtures

pytestmark = pytest.mark.anyio

PASSWORD = "forge-password-4711"


@pytest.mark.parametrize("line", ["grep -rn forge-password .", "rg --hidden -uu forge-password"])
async def test_a_forges_password_is_not_found_by_searching_everything(files: World, line: str) -> None:
    files.git("config", "remote.origin.url", f"https://me:{PASSWORD}@example.com/app.git")
    files.git("init", "-q", "vendor")
    files.git("-C", "vendor", "config", "http.extraHeader", f"Authorization: Basic {PASSWORD}")
    for told in (await files.read(line), await files.work_on(line)):
        assert PASSWORD.encode() not in told.stdout + told.stderr
    assert (await files.read("git log --oneline")).code == 0, "git itself needs its configuration"


@pytest.mark.parametrize("place", ["modules/a/b/c", "modules/lib/modules/inner", "modules/objects"])
@pytest.mark.parametrize("clone", ["", "vendor/"])
async def test_no_submodules_password_is_found_wherever_it_lies(files: World, place: str, clone: str) -> None:
    files.git("init", "-q", *([clone] if clone else []))
    at = f"{clone}.git/{place}"
    files.git("init", "-q", "--bare", at)
    files.git("-C", at, "config", "remote.origin.url", f"https://me:{PASSWORD}@example.com/lib.git")
    told = await files.read("grep -rn forge-password .")
    assert PASSWORD.encode() not in told.stdout + told.stderr


async def test_a_configuration_without_a_credential_is_as_it_is(files: World) -> None:
    files.git("config", "remote.origin.url", "git@example.com:app.git")
    assert b"example.com" in (await files.read("grep -r example.com .")).stdout


@pytest.mark.parametrize("line", ["cat < a.txt/", "cat < src/app.py/ || echo no", "cat < src/"])
async def test_a_file_with_a_slash_behind_it_is_no_file(files: World, line: str) -> None:
    told = await files.read(line)
    assert (told.code, told.stdout) == (await files.bash(line))[:2]


async def test_the_owner_has_their_own_name(files: World) -> None:
    line = "ls -l a.txt src/app.py"
    assert (await files.read(line)).stdout == (await files.bash(line))[1]
