"""The command as a process: start, help, errors, pipes, signals; docs and schemas in step."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import lineage as package
from lineage.cli.main import COMMANDS, cli
from scripts import cli_docs, schemas
from tests.cli.family import BASE, EVIL, Command
from tests.conftest import ROOT

HEAVY = {"torch", "numpy", "pydantic", "neo4j", "huggingface_hub", "rich", "ray", "fsspec"}


def process(command: Command, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("LINEAGE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "lineage", *arguments],
        env=env | {"LINEAGE_HOME": str(command.home)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def test_help_lists_every_command_and_loads_none() -> None:
    code = (
        "import sys\nfrom lineage.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit as e: assert e.code == 0, e.code\n"
        "print(*sorted(m for m in sys.modules if m.startswith('lineage.cli.') or '.' not in m),"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stderr.split())
    assert not loaded & HEAVY
    assert {m for m in loaded if m.startswith("lineage.cli.")} == {"lineage.cli.main"}
    for name, line in COMMANDS.items():
        assert f"  {name}" in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_list_is_the_command_s_own(name: str) -> None:
    command = cli.get_command(cli.make_context("lineage", ["status"]), name)
    assert command is not None
    assert command.get_short_help_str(limit=200) == COMMANDS[name]


def test_the_page_of_help_texts_is_up_to_date() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == cli_docs.render(), "run: python -m scripts.cli_docs"


def test_the_schemas_are_up_to_date() -> None:
    there = {p.name for p in (ROOT / "schemas").glob("*.json")}
    assert there == {f"{name}.schema.json" for name in schemas.SCHEMAS}
    for name in schemas.SCHEMAS:
        text = (ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
        assert text == schemas.render(name), "run: make schemas"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("--nonsense",),
        ("show",),
        ("show", "a/b", "--format", "yaml"),
        ("mark", "org/base"),
        ("crawl",),
        ("crawl", "--updated-since", "soon"),
        ("crawl", "--repo", "a/b", "--limit", "0"),
        ("add",),
        ("add", "no/such/folder"),
        ("import", "no-such-file.csv"),
        ("descendants", "org/base", "--depth", "-1"),
    ],
)
def test_usage_errors_exit_with_2(lineage: Command, arguments: tuple[str, ...]) -> None:
    result = lineage.run(*arguments, expect=2)
    assert result.stdout == ""
    assert result.stderr


def test_errors_say_what_to_do(lineage: Command) -> None:
    error = lineage.run("show", "no/body", expect=4).stderr
    assert error.splitlines()[0].startswith("error: 'no/body' is not in sqlite:///")
    assert error.splitlines()[1].startswith("  ")


def test_what_the_user_typed_is_escaped_too(lineage: Command) -> None:
    assert "\x1b" not in lineage.run("show", "\x1b[31m", expect=2).output


@pytest.mark.parametrize("url", ["mysql://x", "sqlite://", "what", "neo4j://"])
def test_a_store_that_is_none_is_a_failure(lineage: Command, url: str) -> None:
    assert "error: " in lineage.run("--store", url, "status", expect=4).stderr


def test_the_store_comes_from_option_or_environment(lineage: Command, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/other.db"
    lineage.run("--store", url, "show", BASE, expect=4)
    environment = {"LINEAGE_HOME": str(tmp_path), "LINEAGE_STORE": url}
    result = CliRunner().invoke(cli, ["show", BASE], env=environment)
    assert result.exit_code == 4
    assert "other.db" in result.stderr


def test_a_home_that_cannot_be_made_is_a_usage_error(lineage: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    lineage.run("--home", str(tmp_path / "file" / "home"), "status", expect=2)


def test_quiet_says_nothing_but_errors(lineage: Command) -> None:
    assert lineage.run("--quiet", "descendants", BASE, "--depth", "1", expect=3).stderr == ""
    assert lineage.run("-q", "show", "no/body", expect=4).stderr


def test_version(lineage: Command) -> None:
    assert lineage.run("--version").stdout.strip() == f"lineage, version {package.__version__}"


def test_data_on_stdout_warnings_on_stderr_status_from_the_process(lineage: Command) -> None:
    running = process(lineage, "descendants", "org/base", "--limit", "1", "--format", "json")
    out, err = running.communicate(timeout=60)
    assert running.returncode == 3
    assert out.startswith("{")
    assert "warning: there is more" in err


def test_a_terminal_without_unicode_is_served(lineage: Command) -> None:
    running = process(lineage, "--help", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert "(blake3:" in out


def test_a_reader_that_goes_away_is_no_complaint(lineage: Command) -> None:
    running = process(lineage, "export")
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert running.stderr.read() == ""
    running.stderr.close()
    assert running.wait(60) == 141


def test_ctrl_c_says_how_to_go_on(lineage: Command, tmp_path: Path) -> None:
    fifo = tmp_path / "edges.csv"
    os.mkfifo(fifo)
    running = process(lineage, "--verbose", "crawl", "--list", str(fifo))
    writer = os.open(fifo, os.O_WRONLY)  # returns when the command has opened it for reading
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    os.close(writer)
    assert running.returncode == 130
    assert err == "interrupted; run the same command again to go on\n"


def test_tables_on_a_terminal_fold_and_keep_every_letter(lineage: Command) -> None:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    env = {k: v for k, v in os.environ.items() if not k.startswith("LINEAGE_")}
    env |= {"LINEAGE_HOME": str(lineage.home), "COLUMNS": "200", "TERM": "xterm"}
    running = subprocess.Popen(
        [sys.executable, "-m", "lineage", "descendants", "org/base"],
        env=env, stdout=follower, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    while chunk := _read(leader):
        seen += chunk
    _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, b"")
    shown = seen.decode()
    assert "\x1b[1m" in shown  # rich's own style
    assert "\x1b[31m[bold]" not in shown  # not that of the name
    assert EVIL.replace("\x1b", "\\x1b") in shown


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except OSError:  # the other end is closed
        return b""


def test_version_attribute() -> None:
    assert package.__version__
    with pytest.raises(AttributeError):
        _ = package.nothing
