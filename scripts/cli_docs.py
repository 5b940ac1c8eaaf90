"""Write the help texts of every command to `docs/cli.md`: `python -m scripts.cli_docs`."""

from pathlib import Path

import click

from lineage.cli.main import COMMANDS, cli

FILE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
_WIDTH = 96

_HEAD = """# The command line

Data goes to stdout, progress and warnings to stderr. `--format json` is stable: its schemas are in
`schemas/` (`descendants` and `ancestors` share `reach`, the jobs share `job`; what `watch` sends
and prints is `webhook`, `show --tensors` is `show-tensors`). In tables and CSV,
control characters, terminal escapes and bidirectional overrides that a name or card brings are
written out; JSON is plain ASCII.

Exit status:

- 0: clean.
- 1: something is flagged or contradicted. `impact` and `show`: an advisory that stands reaches
  something, affected or under investigation. `check`: something is wrong with the recipe.
  `remediate`: something is affected. `verify`, `explain` and `path`: the weights
  contradict an edge. `watch --once`: something is newly exposed.
- 2: usage error.
- 3: the answer is partial, which weighs more than 1. A limit or a time was reached (`complete` is
  false and `stopped_by` says which), or a job could not read something.
- 4: failure; an unknown reference too.
- 130: interrupted, the usual end of `watch`. A job goes on where it stopped when the same command
  is run again.

An advisory that is withdrawn exposes nothing: `impact` then lists nothing, says so and exits 0.
The texts below are those of `--help` (`python -m scripts.cli_docs` writes this file).
"""


def render() -> str:
    """Return the whole page."""
    root = click.Context(cli, info_name="lineage", **cli.context_settings)
    parts = [_HEAD, _section("lineage", cli, root)]
    for name in COMMANDS:
        command = cli.get_command(root, name)
        if command is not None:
            context = click.Context(command, info_name=name, parent=root)
            parts.append(_section(f"lineage {name}", command, context))
    return "\n".join(parts)


def _section(title: str, command: click.Command, context: click.Context) -> str:
    context.max_content_width = context.terminal_width = _WIDTH
    text = command.get_help(context).rstrip()
    return f"## {title}\n\n```text\n{text}\n```\n"


def main() -> None:
    """Write the page."""
    FILE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
