"""Makes the files that the experiments read, of a search's folder (docs/predictor.md).

python -m benchmarks.worth.export RUN --out DATA/digits-dit --config digits-dit-calibrated.toml
    --set bank.path=… --set calibration.path=… --alone RUN-OF-SINGLE-CHOICES
"""

import argparse
from pathlib import Path

from benchmarks.worth.data import export


def main() -> None:
    """Read the arguments, export, and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--alone", type=Path)
    given = parser.parse_args()
    settings = dict(text.split("=", 1) for text in given.set)
    made = export(given.run, given.out, given.config, settings, given.alone)
    known = int((made.alone == made.alone).any(1).sum())
    print(f"{made.name}: {len(made.y)} trials of {len(made.space.choices)} choices, {known} measured alone")


if __name__ == "__main__":
    main()
