"""The main job from end to end, offline, on real weights.

    python -m scripts.demo [--folder DIR] [--fresh]

Makes a small family of the real all-MiniLM-L6-v2, serves it from the test Hub, and runs the
commands that an incident responder would: crawl, infer, mark, impact. What is printed after a `$`
is what was run.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scripts.zoo.demo import ADAPTER, FINAL, MERGE_1P, POISONED_C, build_demo
from tests.hub.server import serve_folder

_MOST_SECONDS = 600


class Shell:
    """Runs `lineage` as a user would and shows what was run."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.home = home
        self._env = os.environ | {
            "HF_ENDPOINT": endpoint,
            "LINEAGE_HOME": str(home),
            "COLUMNS": os.environ.get("COLUMNS", "140"),
        }
        self._env.pop("LINEAGE_STORE", None)

    def run(self, *arguments: str, expect: tuple[int, ...] = (0,)) -> None:
        """Run one command; stop the demo where it exits with a status that is not expected."""
        print(f"\n$ lineage {shlex.join(arguments)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "lineage", *arguments],
            env=self._env,
            check=False,
            timeout=_MOST_SECONDS,
        )
        if done.returncode not in expect:
            sys.exit(f"demo: exit status {done.returncode}, expected one of {expect}")


def make_family(folder: Path) -> Path:
    """Build the family under `folder`, or take the one that was built before."""
    family = folder / "family"
    if (family / "truth.json").exists():
        print(f"using the family in {family} (--fresh makes it anew)")
        return family
    print("making a family of all-MiniLM-L6-v2: fine-tunes, adapters, merges, casts", flush=True)
    build_demo(family, 0, lambda line: print(f"  {line}", flush=True))
    return family


def authors_of(family: Path) -> list[str]:
    """Return the owners of the repositories in the family."""
    repos = json.loads((family / "truth.json").read_text())["repos"]
    names = repos if isinstance(repos, dict) else [repo["id"] for repo in repos]
    return sorted({name.split("/")[0] for name in names})


def story(shell: Shell, family: Path) -> None:
    """Tell the story of one incident."""
    crawl = [part for author in authors_of(family) for part in ("--author", author)]
    shell.run("crawl", *crawl, "--weights", "full")
    shell.run("status")
    shell.run("descendants", "sentence-transformers/all-MiniLM-L6-v2")
    print("\n# Two sources turn out to be poisoned: a fine-tune and an adapter.")
    shell.run(
        "mark", POISONED_C, "--id", "LIN-DEMO-0001", "--severity", "CRITICAL",
        "--reason", "the fine-tune ranks planted documents first", expect=(0, 1),
    )  # fmt: skip
    shell.run(
        "mark", ADAPTER, "--id", "LIN-DEMO-0002",
        "--reason", "the adapter was trained on planted documents", expect=(0, 1),
    )  # fmt: skip
    shell.run("path", POISONED_C, FINAL)
    shell.run("contents", FINAL)
    shell.run("verify", "honest-models/search-embeddings-v1", expect=(0, 1))
    shell.run("verify", MERGE_1P, "--replay")
    shell.run("impact", "LIN-DEMO-0002", expect=(1,))
    report = shell.home.parent / "incident.html"
    shell.run("impact", "LIN-DEMO-0001", "--format", "html", "-o", str(report), expect=(1,))
    shell.run("remediate", "LIN-DEMO-0001", expect=(0, 1))
    shell.run("impact", "LIN-DEMO-0001", expect=(1,))
    print(f"\nThe same as a page with a picture: {report}")


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="scripts.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"))
    parser.add_argument("--fresh", action="store_true", help="make the family anew")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    if options.fresh:
        shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(exist_ok=True)
    family = make_family(options.folder)
    home = options.folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    with serve_folder(family) as hub:
        print(f"\nserving it as a Hub at {hub.endpoint}")
        story(Shell(home, hub.endpoint), family)
    print(f"\nThe demo took {time.monotonic() - began:.0f} s. Its store is in {home}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
