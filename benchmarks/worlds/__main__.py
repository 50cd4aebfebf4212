"""``python -m benchmarks.worlds run [--only TEXT] [--seed S]``, then ``python -m benchmarks.worlds tables``."""

from __future__ import annotations

import argparse

from benchmarks.worlds.cells import cells
from benchmarks.worlds.run import RUNS, run
from benchmarks.worlds.tables import RECORDED, write_tables
from benchmarks.worlds.tuning import tune
from medr1kit.study.folder import state_of


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What training does to the built-in model, in its two worlds.")
    parser.add_argument("what", choices=("run", "tables", "status", "tune"))
    parser.add_argument("--only", default="", help="cells whose name begins with one of these words, parted by commas")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    chosen = [cell for cell in cells() if cell.name.startswith(tuple(given.only.split(",")))]
    chosen = [cell for cell in chosen if given.seed is None or cell.seed in (None, given.seed)]
    if given.what == "run":
        run([cell for cell in chosen if state_of(RUNS, cell).state != "done"], given.workers)
    elif given.what == "tables":
        write_tables()
    elif given.what == "tune":
        tune(given.workers).round(4).to_csv(RECORDED / "tuning.csv", index=False)
    else:
        states = [state_of(RUNS, cell).state for cell in chosen]
        print({state: states.count(state) for state in sorted(set(states))})


if __name__ == "__main__":
    main()
