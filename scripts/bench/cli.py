"""How long the command line takes to start: `python -m scripts.bench.cli`.

Medians of whole processes, beside `python -c pass` in the same run, with compiled bytecode.
"""

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lineage
from lineage.domain.derivation import Relation
from lineage.graph.open import open_store
from lineage.graph.store import DeclaredEdge

_RUNS = 15
_CHILDREN = 200


def _median_ms(command: list[str], env: dict[str, str]) -> float:
    times = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def main() -> None:
    """Print one line for each command."""
    compileall.compile_dir(str(Path(lineage.__file__).parent), quiet=2)
    script = str(Path(sys.executable).with_name("lineage"))
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"LINEAGE_HOME": folder}
        env.pop("LINEAGE_STORE", None)
        store = open_store(f"sqlite:///{folder}/lineage.db")
        edges = (DeclaredEdge("a/root", f"b/m{i}", Relation.FINETUNE) for i in range(_CHILDREN))
        store.import_edges(edges, "bench")
        store.close()
        bare = _median_ms([sys.executable, "-c", "pass"], env)
        commands = {
            "lineage --help": ["--help"],
            "lineage descendants --help": ["descendants", "--help"],
            f"lineage descendants ({_CHILDREN} rows)": ["descendants", "a/root"],
        }
        print(f"{'python -c pass':34} {bare:7.0f} ms")
        for name, arguments in commands.items():
            took = _median_ms([script, *arguments], env)
            print(f"{name:34} {took:7.0f} ms  {took / bare:5.1f}x python -c pass")


if __name__ == "__main__":
    main()
