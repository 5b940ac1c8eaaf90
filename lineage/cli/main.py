"""The command `lineage`: global options, commands loaded when they are called, exit status."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from lineage.domain.errors import LineageError

# The help lines stand here so that `lineage --help` loads no command (a test holds them equal).
COMMANDS = {
    "crawl": "Read models and adapters from the Hub.",
    "add": "Read models and adapters from local folders.",
    "import": "Import declared edges, Hub model JSON lines or an export.",
    "infer": "Find parents by comparing fingerprints.",
    "show": "Show a revision, a repo or an advisory.",
    "descendants": "List what descends from a model.",
    "ancestors": "List what a model descends from.",
    "path": "Show a shortest path from parent to child.",
    "contents": "List what is inside a model, and how much.",
    "explain": "Show the evidence that a child descends from a parent.",
    "verify": "Hold a model's claims against its weights.",
    "mark": "Mark models as poisoned: write an advisory.",
    "withdraw": "Withdraw an advisory.",
    "advisories": "List advisories.",
    "impact": "List what an advisory exposes, worst first.",
    "remediate": "Write the recipes that leave a poisoned source out.",
    "signs": "Tell by what a source would win merges.",
    "check": "Check a merge recipe before merging.",
    "watch": "Keep reading what is new, and tell what it exposes.",
    "export": "Write the whole graph to a file or a pipe.",
    "status": "Show what the store holds and what could not be read.",
}
_MODULES = {"import": "import_"}
_INTERRUPTED = 130
_BROKEN_PIPE = 141

EPILOG = """\b
REF is org/name (all its revisions), org/name@commit, a folder, a digest
(blake3:…, sha256:…) or an advisory id.

\b
Exit status: 0 clean, 1 something is flagged or contradicted, 2 usage error,
3 the answer is partial, 4 failure.
"""


class LazyGroup(click.Group):
    """Loads a command's module when the command is called, and turns errors into exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """Return the names of all commands, in the order of the road."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as click calls it
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"lineage.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as click calls it
        """Write the list of commands without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it returns is the exit status, what it raises becomes one."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except LineageError as error:
            _complain(error)
            status = error.exit_code
        except BrokenPipeError:
            _silence(sys.stdout)
            status = _BROKEN_PIPE
        except KeyboardInterrupt:
            click.echo("interrupted; run the same command again to go on", err=True)
            status = _INTERRUPTED
        if isinstance(status, int) and status:
            ctx.exit(status)
        return None


def _complain(error: LineageError) -> None:
    from lineage.report.text import clean

    click.echo(f"error: {clean(error.what)}", err=True)
    for line in error.hint.splitlines():
        click.echo(f"  {clean(line)}", err=True)


def _silence(stream: Any) -> None:
    """Let the interpreter flush a broken pipe at its end without a complaint."""
    try:
        handle = stream.fileno()
    except (OSError, ValueError):
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), handle)


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--store", "store_url", metavar="URL", envvar="LINEAGE_STORE",
    help="The graph: sqlite:///FILE or neo4j://[user@]host. [env: LINEAGE_STORE; default: a"
    " SQLite file in the home]",
)  # fmt: skip
@click.option(
    "--home", metavar="DIR", envvar="LINEAGE_HOME",
    type=click.Path(file_okay=False),
    help="Where the default store and the fingerprints lie. [env: LINEAGE_HOME; default: the"
    " user's data folder]",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Tell every step on stderr.")
@click.version_option(package_name="lineage", prog_name="lineage")
@click.pass_context
def cli(
    ctx: click.Context, store_url: str | None, home: str | None, quiet: bool, verbose: bool
) -> None:
    """Find what descends from a model or adapter, how we know, and what an incident exposes."""
    from lineage.cli.app import App

    ctx.obj = App(store_url=store_url, home_path=home, quiet=quiet, verbose=verbose)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. Every exit of the process is here."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a terminal that cannot show a character shows its code
            reconfigure(errors="backslashreplace")
    try:
        cli.main(args=None if arguments is None else list(arguments), prog_name="lineage")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    sys.exit(0)
