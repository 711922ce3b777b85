"""Results as a JSON file, how they compare with stored ones, and the page of the docs that is made of them."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.suite.measure import Result

__all__ = ["LONGER", "STORED", "Results", "page", "worse"]

STORED = Path(__file__).parents[1] / "results.json"
PACKAGES = ("torch", "numpy", "numba", "scikit-learn", "torch-geometric", "diffusers")
LONGER = {
    "bank": "one layer against scikit-learn and kmeans1d (`pip install kmeans1d`), errors too",
    "bank_full pixart-alpha --calibrated --kills 2": "the bank of a full-size denoiser: time, memory, size",
    "bank_share sdxl": "how long such a bank takes, from a tenth of its layers",
    "build": "recipes within budgets at SDXL's size",
    "calibration layer": "calibrated fits beside plain ones and textbook GPTQ",
    "compare_flow": "flow graphs beside those of Qua²SeDiMo, which it needs",
    "covered": "whether intervals cover the truth",
    "device": "fits of layers and whole commands on a GPU beside the CPU",
    "errors digits-dit --folder DIR": "output errors beside what images show",
    "faults": "commands killed, nodes lost, disks full: see [Faults](faults.md)",
    "fidelity digits-dit --folder DIR": "how cheap fidelities rank recipes",
    "fuzz": "everything that q2 reads, damaged: see [Security](security.md)",
    "intervals digits-dit --folder DIR --seeds 14": "intervals beside repeated draws",
    "long_run": "2,000 trials whose workers die now and then: time and memory, see [Faults](faults.md)",
    "mase": "MASE's sixteen configurations beside its walk-through's figures",
    "packed": "SDXL's U-Net packed: memory and speed",
    "packed_cpu": "packed layers of many shapes, and steps",
    "packed_gpu": "packed layers and steps on a GPU",
    "peers digits-dit --folder DIR": "what other packages make of the same denoisers",
    "pipelines": "tiny pipelines of diffusers taken the whole way",
    "plan": "how far the time that `q2 plan` says is from what is taken",
    "predictor": "a planted problem, and an epoch by either attention",
    "scale": "what a search costs on many GPUs, and where the driver is the limit",
    "shootout digits-dit --folder DIR": "strategies side by side",
    "trace_diffusers": "every denoiser class of diffusers traced",
    "trace_full": "the published denoisers traced at full size",
    "trials": "ten thousand trials: open, list, merge, export",
    "worth DATA/digits-dit": "what a network is worth beside simpler predictors",
}


@dataclass(frozen=True)
class Results:
    """Results by the measures' names, with the machine and the versions that they are of."""

    made: Mapping[str, str]
    measures: Mapping[str, Result]

    @classmethod
    def here(cls, measures: Mapping[str, Result]) -> "Results":
        """Return results of this machine."""
        made = {"processor": _processor(), "cores": str(os.cpu_count()), "system": platform.system()}
        made |= {"Python": platform.python_version()} | {name: version(name) for name in PACKAGES}
        return cls(made, measures)

    @classmethod
    def load(cls, path: Path = STORED) -> "Results":
        """Read a file that `save` wrote."""
        read = json.loads(path.read_text("utf-8"))
        return cls(read["made"], {name: Result.read(entry) for name, entry in read["measures"].items()})

    def save(self, path: Path) -> None:
        """Write a file, whole or not at all."""
        text = {"made": dict(self.made), "measures": {name: each.plain() for name, each in self.measures.items()}}
        beside = path.with_name(f".{path.name}.part")
        beside.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", "utf-8")
        beside.replace(path)


def worse(now: Mapping[str, Result], stored: Mapping[str, Result], times: float) -> list[str]:
    """Return a line for every result that is more than `times` as bad as the stored one.

    What counts is the ratio of the least times, which other processes on the machine change little.
    """
    found = []
    for name, result in now.items():
        if name in stored and result.ratio > times * stored[name].ratio:
            found.append(
                f"{name}: {result.what} takes {result.ratio:.3g} times as long as {result.beside},"
                f" stored are {stored[name].ratio:.3g}: {result.ratio / stored[name].ratio:.1f} times worse"
            )
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def said(result: Result) -> str:
    """Return a ratio as people say it."""
    speed = f", {result.million_weights_a_second:,.0f} M weights/s" if result.million_weights_a_second else ""
    slower = f"{result.ratio:.3g} × the time"
    return (slower if result.ratio >= 1 else f"{1 / result.ratio:.3g} × as fast") + speed


def page(results: Results) -> str:
    """Return docs/benchmarks.md."""
    rows = []
    for name, each in results.measures.items():
        kept = "" if not each.most else "; kept" if each.ratio <= each.most else "; **not kept**"
        bound = f"at most {each.most:g} ×" if each.most >= 1 else f"{1 / (each.most or 1):.0f} × as fast"
        promise = bound if each.most else ""
        spread = f"{each.median:.3g} ({each.low:.3g} to {each.high:.3g}), {each.rounds} rounds"
        part = "quick" if each.quick else "long"
        cells = (f"`{name}`", each.what, each.beside, said(each), spread, part, promise + kept)
        rows.append(f"| {' | '.join(cells)} |")
    made = ", ".join(f"{key} {value}" for key, value in results.made.items() if key not in ("processor", "cores"))
    machine = f"{results.made['processor']}, {results.made['cores']} cores that other work shared; {made}"
    longer = [f"| `python -m benchmarks.{name}` | {what} |" for name, what in LONGER.items()]
    return "\n".join([*HEAD, "", f"Measured on: {machine}.", "", *TABLE, *rows, "", *REST, *longer, ""])


HEAD = """# Benchmarks

`make bench` measures what is below, on a CPU in one thread, writes `benchmarks/results.json` and makes this page of it.
`make bench-quick` measures the quick part alone and compares it with the stored file: twice as bad a ratio is an error.
`python -m benchmarks.run NAME` measures one.

Every figure is a ratio of CPU times of two works that took turns in one run, so that it says the same on a machine
that others use, and nearly the same on another machine. The ratio is that of the least times of the rounds; the spread
is the median of the rounds' own ratios, with the smallest and the largest.
""".splitlines()
TABLE = [
    "| measure | q2 | beside | ratio | spread | part | promised |",
    "| --- | --- | --- | --- | --- | --- | --- |",
]
REST = """## What takes longer

These print tables of their own; the pages on their subjects have their figures.

| command | what |
| --- | --- |""".splitlines()
