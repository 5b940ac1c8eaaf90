"""A home with a small family in it."""

from pathlib import Path

import pytest

from tests.cli.family import Command, write_family


@pytest.fixture
def lineage(tmp_path: Path) -> Command:
    """The command line on the family."""
    command = Command(tmp_path)
    write_family(command.store_url)
    return command


@pytest.fixture
def empty(tmp_path: Path) -> Command:
    """The command line on a store that does not exist yet."""
    return Command(tmp_path / "new")
