"""Every reader of q2 with something valid to read, and what is damaged of it."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.fuzzing.grammar import sentence
from benchmarks.fuzzing.mutations import damaged, damaged_text
from benchmarks.fuzzing.samples import make_samples, quantizers
from q2.config import RunFile, shipped, text_of
from q2.passes.building import with_pipeline
from q2.plugins import Plugins

__all__ = ["Reader", "readers"]

METRICS = ("FID-GT-1k", "avg_bits", "bops", "a", "a-b")
SHIPPED = ("digits-dit.toml", "sdxl.toml", "digits-sdxl-calibrated.toml", "jsc-tiny-search.toml")
SETS = (
    "seed=11",
    "samples.images=100",
    'bank.options=["uaq-4", "kmeans-c-3"]',
    "denoiser.arguments={height=512}",
    'denoiser.loras=[{path="a.safetensors", weight=0.5}]',
    'search.constraints=["avg_bits <= 3.7"]',
    'search.layers."^pos_embed"=["none"]',
    "search.strategies.mine={strategy='optuna', sampler='tpe'}",
    'passes.quantize."ff.*"=uaq-3',
    "plugins.disable=[]",
)
TARGETS = ("-1*FID-GT-1k - avg_bits*150", "clip(log(bops), 0, a-b) ** 2 // (a + 1)", "min(a, a-b, 3.5e-2) % 7")
PIPELINES = (
    "stats{samples=2,steps=2},quantize{default=uaq-4,by=regex},size",
    "again:stats{layers='*.to_q'}, quantize{by=name, proj=\"kmeans-c-3\"}, bops",
)


class Reader(Protocol):
    """Something of q2's that reads what people hand over."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    def whole(self) -> None:
        """Read the valid thing; what is slow for the first time is so then."""

    def case(self, rng: random.Random) -> AbstractContextManager[Callable[[], object]]:
        """Damage what is read, by chance, for the length of a `with`; yield what reads it."""


@dataclass(frozen=True)
class Files:
    """Reads a folder; one of its `files` is damaged, mostly, and `repair` may make checksums fit again."""

    name: str
    folder: Path
    files: Sequence[str]
    read: Callable[[Path], object]
    repair: Callable[[Path, random.Random], None] | None = None
    touched: Sequence[str] = ()
    kept: dict[str, bytes] = field(default_factory=dict)

    def whole(self) -> None:
        """See `Reader`."""
        self.read(self.folder)

    @contextmanager
    def case(self, rng: random.Random) -> Iterator[Callable[[], object]]:
        """See `Reader`."""
        for file in (*self.files, *self.touched):
            self.kept.setdefault(file, (self.folder / file).read_bytes())
        file = rng.choice(self.files)
        if rng.random() < 0.01:
            (self.folder / file).unlink()
        else:
            (self.folder / file).write_bytes(damaged(file, self.kept[file], rng))
            if self.repair is not None and rng.random() < 0.7:
                self.repair(self.folder, rng)
        try:
            yield lambda: self.read(self.folder)
        finally:
            for each in (file, *self.touched):
                (self.folder / each).write_bytes(self.kept[each])


@dataclass(frozen=True)
class Texts:
    """Reads a text: a valid one damaged once or more, or one that a grammar makes up."""

    name: str
    texts: Sequence[str]
    read: Callable[[str], object]
    rules: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def whole(self) -> None:
        """See `Reader`."""
        for text in self.texts:
            self.read(text)

    @contextmanager
    def case(self, rng: random.Random) -> Iterator[Callable[[], object]]:
        """See `Reader`."""
        text = sentence(self.rules, rng) if self.rules and rng.random() < 0.4 else rng.choice(self.texts)
        for _ in range(rng.choice([0, 1, 1, 2]) if self.rules else rng.choice([1, 1, 2, 5])):
            text = damaged_text(text, rng)
        yield lambda: self.read(text)


def readers(folder: Path, *, slow: bool = True) -> list[Reader]:
    """Return the readers, all of them if `slow`; what they read is made below `folder`."""
    files = file_readers(folder, slow=slow)
    return [
        *text_readers(folder),
        *(each for each in files if all((each.folder / name).exists() for name in each.files)),
    ]


def text_readers(folder: Path) -> list[Reader]:
    """Return those of text."""
    from benchmarks.fuzzing.grammar import CONSTRAINT, OPTION, PIPELINE, SETTING, TARGET
    from q2.quant.kinds import QUANTIZERS
    from q2.quant.resolve import known_option
    from q2.search.objective.constraints import Constraint
    from q2.search.objective.target import Target
    from q2.session.session import Session

    plugins = Plugins(entry_points=False)
    base = RunFile.load("digits-dit.toml")
    values = [dict.fromkeys(METRICS, value) for value in (2.5, -1.0, 1e300)]

    def target(text: str) -> None:
        found = Target.parse(text, METRICS)
        for row in values:
            found.finite(row)
        found.value(values[0])

    def run_file(text: str) -> None:
        file = folder / "run.toml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        session = Session(RunFile.load(str(file)))
        _ = session.rows(), session.effective_toml

    def setting(text: str) -> None:
        session = Session(base.overridden([text]))
        _ = session.rows(), session.effective_toml

    def passes(text: str) -> None:
        _ = Session(with_pipeline(base, text)).pass_pipeline

    texts = [text_of(name) for name in SHIPPED if name in shipped()]
    return [
        Texts("run files", texts, run_file),
        Texts("--set", SETS, setting, SETTING),
        Texts("--passes", PIPELINES, passes, PIPELINE),
        Texts("targets", TARGETS, target, TARGET),
        Texts(
            "constraints", ("avg_bits <= 3.7", "bops>=1e9"), lambda text: Constraint.parse(text, METRICS), CONSTRAINT
        ),
        Texts(
            "options",
            ("uaq-4", "kmeans-c-3", "integer-8.4", "minifloat-8.e4m3", "mxfp6.e3m2", "none"),
            lambda text: known_option(text, plugins.of(QUANTIZERS)),
            OPTION,
        ),
    ]


def file_readers(folder: Path, *, slow: bool = True) -> list[Files]:  # noqa: PLR0915 (a list)
    """Return those of files and folders."""
    from q2.compat.mase.run_file import imported
    from q2.denoisers.checkpoints.stored import StoredWeights
    from q2.models.model import load_state
    from q2.quant import Option, Recipe
    from q2.quant.bank import Bank
    from q2.quant.calibration.rows import RowStore
    from q2.quant.sensitivity import SensitivityTable
    from q2.report.folder import RunFolder
    from q2.report.page import page_of, render
    from q2.search.predictor.autobuild import read_autobuild
    from q2.search.predictor.dataset import GraphSet
    from q2.search.predictor.modules import Modules
    from q2.search.predictor.space import NodeSpace
    from q2.search.predictor.trained import Trained
    from q2.search.reduced import ReducedSpace
    from q2.search.trials.exchange import csv_lines, import_, json_lines
    from q2.search.trials.legacy import read_legacy
    from q2.search.trials.listing import Listing
    from q2.search.trials.store import TrialStore
    from q2.session.modules.saving import load_graph
    from q2.session.predict import read_labels
    from q2.session.reproducer import Reproducer

    made = make_samples(folder, slow=slow)

    def recipe(at: Path) -> None:
        found = Recipe.load(at / "recipe.toml")
        found.check(made.layers, "digits-dit")
        found.save(at / "again.toml")

    def store(at: Path) -> None:
        found = TrialStore.read(at / "trials")
        listing = Listing.of(found)
        _ = listing.rows(), "".join(csv_lines(found)), "".join(json_lines(found, found.fingerprint))

    def trials(at: Path) -> None:
        import_(TrialStore(made.empty, TrialStore.read(made.empty).fingerprint), at / "trials.json")

    def bank(at: Path) -> None:
        found = Bank.open(at, quantizers)
        for layer in found.plan.layers.values():
            for choice in layer.choices:
                for option in found.plan.options:
                    fitted = found.fitted(choice, Option.parse(option))
                    if fitted is not None:
                        _ = fitted.bits, fitted.errors
        _ = found.rows

    def rows(at: Path) -> None:
        found = RowStore.open(at)
        for layer in found.layers:
            found.rows(layer)

    def labels(at: Path) -> None:
        space, found = read_labels(at / "labels.npz")
        _ = repr(found), found.sensitivity(), str(found.made), space.tables

    def reduced(at: Path) -> None:
        found = ReducedSpace.load(at / "top.toml")
        found.applied(made.space, "digits-dit")
        found.united(found).save(at / "again.toml")

    def report(at: Path) -> None:
        render([page_of(RunFolder(at))])

    def replay(at: Path) -> None:
        from q2.session.session import Session

        Session(Reproducer.load(at / "crash.toml").run_file(at / "crash.toml"))

    def stored(at: Path) -> None:
        found = StoredWeights([at / "model.safetensors"])
        for name in found:
            _ = found[name], found.empty(name)

    def sensitivity(at: Path) -> None:
        found = SensitivityTable.load(at / "sensitivity.json")
        _ = found.to_csv(), found.to_json()

    def predictor(at: Path) -> None:
        found = Trained.load(at)
        found.predict(made.graphs)
        found.summary()

    def states(at: Path) -> None:
        for name in ("model.safetensors", "model.pt"):
            load_state(made.module(), at / name)

    def graphs(at: Path) -> None:
        GraphSet.load(at / "graphs.npz").layout([0], 4)

    return [
        Files("recipes", made.recipes, ["recipe.toml"], recipe),
        Files("trial stores", made.run, ["trials/store.json", made.segment, "effective.toml"], store),
        Files("trials as JSON", made.trials, ["trials.json"], trials),
        Files("legacy pickles", made.pickles, ["cache.pkl"], lambda at: read_legacy(at / "cache.pkl")),
        Files(
            "AutoBuild's pickles",
            made.pickles,
            ["autobuild.pkl"],
            lambda at: GraphSet.of(read_autobuild(at / "autobuild.pkl")[0]["graphs"]),
        ),
        Files("banks", made.bank, made.names(made.bank), bank),
        Files("rows", made.rows, made.names(made.rows), rows),
        Files("labels", made.labels, ["labels.npz", "space.npz"], labels),
        Files("spaces of nodes", made.labels, ["space.npz"], lambda at: NodeSpace.load(at / "space.npz").tables),
        Files("graph sets", made.graph_files, ["graphs.npz"], graphs),
        Files("graphs as JSON", made.graph_files, ["graphs.json"], lambda at: GraphSet.read_json(at / "graphs.json")),
        Files("modules", made.graph_files, ["modules.json"], lambda at: Modules.load(at / "modules.json").top(1)),
        Files(
            "predictors",
            made.predictor,
            ["predictor.json", "predictor.safetensors"],
            predictor,
            made.signed,
            ["predictor.json"],
        ),
        Files("sensitivities", made.recipes, ["sensitivity.json"], sensitivity),
        Files("reduced spaces", made.recipes, ["top.toml"], reduced),
        Files("reproducers", made.recipes, ["crash.toml"], replay),
        Files("MASE's run files", made.recipes, ["mase.toml"], lambda at: imported(at / "mase.toml")),
        Files("runs' folders", made.run, ["manifest.json", "report.json", "effective.toml", "recipe.toml"], report),
        Files("safetensors heads", made.states, ["model.safetensors"], stored),
        Files(
            "state dicts",
            made.states,
            ["model.safetensors", "model.pt"],
            states,
        ),
        Files("saved modules", made.saved, ["graph.json", "model.safetensors"], load_graph),
        Files(
            "packed folders",
            made.packed,
            ["transformer/config.json", made.packed_weights, "model_index.json"],
            made.load_packed,
        ),
    ]
