"""Each command in each format that it offers."""

import csv
import io
import json

import click
import pytest

from lineage.cli.main import COMMANDS, cli
from tests.cli.family import Command

CALLS: dict[str, tuple[tuple[str, ...], int]] = {
    "show": (("org/tuned",), 1),
    "descendants": (("org/base",), 0),
    "ancestors": (("org/quant",), 0),
    "path": (("org/base", "org/copy"), 0),
    "explain": (("org/base", "org/liar"), 1),
    "verify": (("org/liar",), 1),
    "advisories": ((), 0),
    "impact": (("ACME-1",), 1),
    "status": ((), 0),
    "infer": ((), 3),  # the fingerprint of org/base is nowhere
}


def formats(name: str) -> list[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    (option,) = [p for p in command.params if p.name == "format_"]
    assert isinstance(option.type, click.Choice)
    return list(option.type.choices)


@pytest.mark.parametrize(("name", "format_"), [(name, f) for name in CALLS for f in formats(name)])
def test_every_command_in_every_format(lineage: Command, name: str, format_: str) -> None:
    lineage.run("mark", "org/base", "--id", "ACME-1", "--reason", "poisoned")
    arguments, status = CALLS[name]
    out = lineage.run(name, *arguments, "--format", format_, expect=status).stdout
    assert out.endswith("\n")
    assert out.replace("\n", "").isprintable()
    if format_ == "json":
        assert json.loads(out)
    if format_ == "csv":
        head, *rows = csv.reader(io.StringIO(out))
        assert len(set(head)) == len(head)
        assert all(len(row) == len(head) for row in rows)


def test_every_command_offers_formats() -> None:
    assert all("json" in formats(name) for name in COMMANDS)
