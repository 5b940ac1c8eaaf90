"""Run the benchmarks, each in a process of its own, and print what they print.

    python -m scripts.bench.run [NAME...]

Figures are ratios against a reference measured in the same run; nothing is asserted.
"""

import subprocess
import sys
from pathlib import Path

# `inference` and `calibration` build zoos first: `make bench-inference`
NAMES = ("cli", "fingerprint", "compare", "graph")


def main(names: list[str]) -> int:
    """Run the benchmarks called `names`, or all but inference; return the worst exit status."""
    folder = Path(__file__).parent
    unknown = [name for name in names if not (folder / f"{name}.py").is_file()]
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}", file=sys.stderr)
        return 2
    worst = 0
    for name in names or NAMES:
        print(f"== {name} ==", flush=True)
        done = subprocess.run([sys.executable, "-m", f"scripts.bench.{name}"], check=False)
        worst = max(worst, done.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
