from __future__ import annotations
import pytest
from pathlib import Path
from tests.engine_bench import Setup, prepare, migrate_once
from tests.fakes import decides, says, use
pytestmark = pytest.mark.anyio

@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    return migrate_once(tmp_path_factory.mktemp("migrated"))

@pytest.fixture
def setup(tmp_path: Path, migrated: Path) -> Setup:
    return Setup(prepare(tmp_path, migrated))

async def test_one(setup):
    setup.decider.add(decides("ignore"))
    async with setup.running() as bench:
        await bench.hint()
        assert len(setup.decider.prompts) == 1
        print(await bench.decisions())

async def test_two(setup):
    setup.actor.add(says("", use("bell")), says("done"))
    async with setup.running() as bench:
        run = await bench.tell()
        print(await bench.run(run), setup.bell)
        assert len(setup.bell.rung) == 1
