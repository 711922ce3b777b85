"""How long the calibrated bank of a full-size denoiser takes, from a share of its layers of every kind.

    python -m benchmarks.bank_share sdxl [--share 10] [--folder DIR]

Layers that read one input are a group; groups with the same shapes are alike. Of every kind of group one in `--share`
is fitted, at least one, and of a group with more than `--share` layers one layer in `--share`. Weights and 4,096 rows
of every input are drawn at random. The seconds of each kind, times how often it occurs, are summed: no model of costs.
What is done stays in `--folder`, where a second start goes on.
"""

import argparse
import json
import os
import resource
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks.bank_full import write_rows_of
from q2.config import RunFile
from q2.graph import Graph
from q2.quant import builtin_quantizer
from q2.quant.bank import BankPlan, build
from q2.quant.calibration.moments import Problems
from q2.quant.calibration.rows import RowStore
from q2.session.bank import layer_plans
from q2.session.calibrate import rows_plan
from q2.session.session import Session
from q2.tables import drawn

T = TypeVar("T")
Shapes = tuple[tuple[int, ...], ...]


class Stopwatch:
    """A progress that notes, in a file, how many seconds of the clock and of processor time each item took."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seconds: dict[str, tuple[float, float]] = json.loads(file.read_text()) if file.exists() else {}

    def __call__(
        self, items: Iterable[T], label: str, total: int | None = None, note: Callable[[Any], str] | None = None
    ) -> Iterator[T]:
        """Yield the items, and say at every tenth how many are done."""
        for number, item in enumerate(items, 1):
            start, used = time.perf_counter(), time.process_time()
            yield item
            self.seconds[str(item)] = time.perf_counter() - start, time.process_time() - used
            self.file.write_text(json.dumps(self.seconds))
            if number % 10 == 0:
                print(f"{label}: {number} of {total}", flush=True)


def kinds_of(graph: Graph, groups: Mapping[str, str]) -> dict[Shapes, list[list[str]]]:
    """Return the groups of layers by the shapes of their weights; `groups` names each layer's."""
    members = defaultdict[str, list[str]](list)
    for layer, group in groups.items():
        members[group].append(layer)
    kinds = defaultdict[Shapes, list[list[str]]](list)
    for layers in members.values():
        kinds[tuple(sorted(tuple(graph.weight_layers[layer].shape) for layer in layers))].append(layers)
    return kinds


def sampled(groups: Sequence[list[str]], share: int) -> list[list[str]]:
    """Return one group in `share` of those that are alike, and of a large one a layer in `share`."""
    return [group[::share] if len(group) > share else group for group in groups[::share]]


def drawn_weight(layer: str, shape: Sequence[int]) -> Tensor:
    """Draw a layer's weight, in float16 as checkpoints are."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(zlib.crc32(layer.encode()))).mul_(0.02).half()


def main() -> None:
    """Fit the share, and print a table of the kinds and what all layers take."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--share", type=int, default=10)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    session = Session(RunFile.load(f"{options.name}.toml", ["denoiser.dtype=float16"]))
    graph, settings = session.outline, session.settings
    whole = rows_plan(session, graph, session.create_denoiser(), "made up")
    kinds = kinds_of(graph, whole.layers)
    chosen = {shapes: sampled(groups, options.share) for shapes, groups in kinds.items()}
    chosen_layers = {layer for groups in chosen.values() for group in groups for layer in group}
    kept = {layer: group for layer, group in whole.layers.items() if layer in chosen_layers}
    rows = replace(whole, layers=_named_after_first(kept))
    plans = {name: each for name, each in layer_plans(graph).items() if name in rows.layers}
    plan = BankPlan(rows.denoiser, rows.weights, "float16", settings.prec, settings.bank.options, plans, "made up")
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if not (folder / "rows").exists():
            write_rows_of(rows, graph, folder / "rows")
        print(
            f"{len(plans)} of {len(whole.layers)} layers in {len(rows.groups)} of {len(whole.groups)} groups",
            flush=True,
        )
        watch = Stopwatch(folder / "seconds.json")
        build(
            folder / "bank",
            plan,
            lambda layer: drawn_weight(layer, plans[layer].shape),
            builtin_quantizer,
            watch,
            problems=Problems(RowStore.open(folder / "rows")),
        )
    report(kinds, chosen, watch.seconds)


def _named_after_first(layers: Mapping[str, str]) -> dict[str, str]:
    first = dict[str, str]()
    return {layer: first.setdefault(group, layer) for layer, group in layers.items()}


def report(
    kinds: Mapping[Shapes, list[list[str]]],
    chosen: Mapping[Shapes, list[list[str]]],
    seconds: Mapping[str, tuple[float, float]],
) -> None:
    """Print every kind's seconds a layer and in all, and the sums, by the clock and of processor time."""
    table, totals = [], [0.0, 0.0]
    for shapes, groups in kinds.items():
        fitted = [layer for group in chosen[shapes] for layer in group]
        count = sum(map(len, groups))
        means = [sum(seconds[layer][which] for layer in fitted) / len(fitted) for which in (0, 1)]
        totals = [total + mean * count for total, mean in zip(totals, means, strict=True)]
        text = ", ".join(f"{n} x {'x'.join(map(str, shape))}" for shape, n in Counter(shapes).items())
        table.append((text, count, len(fitted), *(f"{mean:.2f}" for mean in means), f"{means[1] * count / 60:.1f}"))
    heads = ("weights that read one input", "layers", "fitted", "s a layer", "CPU s a layer", "CPU min in all")
    print(drawn(heads, table))
    took, used = (sum(each) / 60 for each in zip(*seconds.values(), strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"fitted in {took:.1f} min, {used:.1f} of CPU time; all layers: {totals[0] / 60:.0f} min by the clock, "
        f"{totals[1] / 60:.0f} of CPU time; {torch.get_num_threads()} threads, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, peak RSS {peak:.2f} GiB"
    )


if __name__ == "__main__":
    main()
