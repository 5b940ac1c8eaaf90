"""contents: how much of each source is inside, through the real command line."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from tests.cli.family import Command
from tests.cli.test_jobs import folder, tuned, weights


@pytest.fixture
def merged(tmp_path: Path) -> Command:
    """A base, two fine-tunes of it and their merge, .6 to .4."""
    command = Command(tmp_path / "home")
    base = weights(1)
    first, second = tuned(base, 2), tuned(base, 3)
    one, two = load(first), load(second)
    merge: bytes = save({n: np.float32(0.6) * one[n] + np.float32(0.4) * two[n] for n in one})
    models = tmp_path / "models"
    for age, (name, data) in enumerate(
        {"merge": merge, "second": second, "first": first, "base": base}.items(), 1
    ):
        folder(models, f"acme/{name}", data, age)
    assert command.json("job", "add", str(models), "--executor", "inline")["complete"]
    return command


def test_a_merge_holds_its_sources_as_much_as_they_were_weighed(merged: Command) -> None:
    found = merged.json("contents", "contents", "acme/merge")
    assert set(found) == {"id", "sources", "unexplained"}
    assert found["id"].startswith("acme/merge@")
    held = {s["id"].partition("@")[0]: s for s in found["sources"]}
    assert held["acme/first"]["coefficient"] == pytest.approx(0.6, abs=0.01)
    assert held["acme/second"]["coefficient"] == pytest.approx(0.4, abs=0.01)
    assert set(held) == {"acme/base", "acme/first", "acme/second"}
    assert all(s["low"] <= s["coefficient"] <= s["high"] for s in found["sources"])
    assert found["unexplained"] < 0.05


def test_a_repo_that_was_never_read_is_an_error(merged: Command, tmp_path: Path) -> None:
    edges = tmp_path / "edges.csv"
    edges.write_text("parent,child\nacme/base,acme/unread\n")
    assert merged.run("import", str(edges)).exit_code == 0
    done = merged.run("contents", "acme/unread", expect=4)
    assert "never read" in done.stderr
