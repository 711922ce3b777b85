"""The predictor by itself: trained on a search's trials or on any graphs, and what it says of every layer and unit."""

import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from q2.config import RunFile, Table
from q2.errors import PredictorError, why
from q2.passes import Step, TextTable
from q2.progress import Progress, silent
from q2.quant.sensitivity import SensitivityTable
from q2.search.evaluation.costs import Costs
from q2.search.kinds import METRICS
from q2.search.objective.target import Target
from q2.search.predictor.additive import additive, priors
from q2.search.predictor.baselines import baselines
from q2.search.predictor.bridge import Bridge
from q2.search.predictor.dataset import Floats, GraphSet
from q2.search.predictor.label import Labels, label
from q2.search.predictor.provenance import BY_LABEL, Provenance
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.tables import fold_tables
from q2.search.predictor.train import Prior, Training, folds_of
from q2.search.predictor.trained import Trained, train
from q2.search.subject import Subject
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
from q2.session.bank import bank_folder, find_bank
from q2.session.folder import unused
from q2.session.graphs import GRAPHS, MODULES, read_graphs
from q2.session.session import Session

__all__ = ["LABELS", "SPACE", "Fit", "fit_graphs", "fit_trials", "make_labels", "read_labels", "read_sensitivities"]

SPACE, LABELS = "space.npz", "labels.npz"
_STORE = "store.json"


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained predictor, and how well others rank the same folds, by name and metric (folds,)."""

    trained: Trained
    others: Mapping[str, Mapping[str, Floats]]
    folder: Path

    @property
    def tables(self) -> tuple[TextTable, TextTable]:
        """How well the predictor ranks every fold's test part; how well each of its hops, and others, do."""
        return fold_tables(self.trained, self.others)

    def __repr__(self) -> str:
        title = f"predictor of {self.trained.target}, in {self.folder}/"
        return "\n\n".join(map(str, (title, *self.tables)))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables)


def fit_trials(
    session: Session, trials: Path, training: Training, *, target: str = "", out: Path | None = None, jobs: int = 1
) -> Fit:
    """Train a predictor on a trial store, or on that of a search's folder, and save it with the space it knows.

    The search's own settings (its space, its target, its bank) count before the run file's, and `target` before both.
    It is saved into `out`, or into ``predictor`` beside the store (``predictor-2`` if that is there).
    Raises `Q2Error`, one line: no store, trials of another denoiser, too few of them, a layer missing from one, all
    of the same value, or labels in `out` that a search made.
    """
    training.place()
    if out is not None:
        _check_own(out / LABELS, f"{out}: take another folder")
    path = trials if (trials / _STORE).exists() or not (trials / "trials").is_dir() else trials / "trials"
    store = TrialStore.read(path)
    session = session.with_run(_of_search(session.run, path.parent))
    found = _comparable(store, session)
    wanted = Target.parse(target or session.settings.search.target, list(session.plugins.of(METRICS)))
    y = wanted.values([trial.metrics for trial in found], [trial.label for trial in found])
    _check(y, str(wanted), training)
    session.show(Step("trials", 0, f"{path}: {len(found)} at fidelity {found[0].fidelity} · target {wanted}"))
    made = Provenance(trials=str(path), count=len(found), fidelity=found[0].fidelity, target=str(wanted))
    bridge = _bridge(session, store, made)
    chosen = bridge.encode([trial.recipe for trial in found], [trial.label for trial in found])
    fits = additive(bridge.space, chosen, y, training)
    graphs, known = bridge.space.graphs(chosen, {str(wanted): y}), priors(bridge.space, fits, chosen, training)
    trained = _timed(graphs, str(wanted), training, jobs, session.progress, session.show, known)
    folder = out or unused(path.parent / "predictor")
    trained.save(folder)
    bridge.space.save(folder / SPACE)
    for name in (LABELS, GRAPHS, MODULES):  # those of another predictor
        (folder / name).unlink(missing_ok=True)
    return Fit(trained, baselines(bridge.space, chosen, y, training, fits), folder)


def fit_graphs(
    path: Path,
    training: Training,
    *,
    target: str = "",
    out: Path | None = None,
    jobs: int = 1,
    progress: Progress = silent,
    show: Callable[[Step], None] = lambda step: None,
) -> Fit:
    """Train a predictor on a JSON file of graphs (docs/predictor.md); `target` is of their metrics, else the first.

    Saved into `out`, or beside the file, with the graphs. Raises `Q2Error`.
    """
    training.place()
    if out is not None:
        _check_own(out / LABELS, f"{out}: take another folder")
    graphs, wanted = read_graphs(path, target)
    _check(graphs.metrics[wanted], wanted, training)
    show(Step("graphs", 0, f"{path}: {len(graphs)} graphs · target {wanted}"))
    folder = out or unused(path.parent / f"{path.stem}-predictor")
    trained = _timed(graphs, wanted, training, jobs, progress, show)
    trained.save(folder)
    graphs.save(folder / GRAPHS)
    for name in (SPACE, LABELS, MODULES):  # those of another predictor
        (folder / name).unlink(missing_ok=True)
    return Fit(trained, {}, folder)


def make_labels(
    folder: Path, out: Path | None = None, *, session: Session | None = None, progress: Progress = silent
) -> tuple[Labels, Path]:
    """Score every option of every layer and every variant of every unit with the predictor in `folder`; save them.

    `session` is one whose denoiser must be the predictor's. Raises `Q2Error`, also where a search's labels are in place
    of the file: these are never replaced.
    """
    path = out or folder / LABELS
    _check_own(path, f"--out names another file, such as {path.with_name('networks.npz')}")
    trained = Trained.load(folder)
    if not (folder / SPACE).exists():
        raise PredictorError(f"{folder}: no {SPACE}: the predictor of a graph set has no layers to label")
    space = NodeSpace.load(folder / SPACE)
    if session is not None:
        _same_denoiser(space, session, folder)
    found = label(space, trained, progress)
    labels = replace(found, made=replace(found.made, predictor=str(folder)))
    labels.save(path)
    if path.parent != folder:
        space.save(path.parent / SPACE)
    return labels, path


def read_labels(path: Path) -> tuple[NodeSpace, Labels]:
    """Read labels, from their file or the folder that has them, and the space beside them. Raises PredictorError."""
    file = path / LABELS if path.is_dir() else path
    labels = Labels.load(file)
    space = NodeSpace.load(file.parent / SPACE)
    if (space.choices, space.options) != (labels.choices, labels.options):
        raise PredictorError(f"{file}: the labels are not of the space in {file.parent / SPACE}")
    return space, labels


def read_sensitivities(path: Path) -> dict[str, float]:
    """Return how much a layer's option matters, by flow node: its summed scores' spread. Raises `Q2Error`.

    Of measurements, a .json file, it is the noise to signal at the worst option, in dB.
    """
    if path.suffix == ".json":
        ranked = SensitivityTable.load(path).ranked()
        return {layer: 10 * float(np.log10(spread)) for layer, spread in ranked if spread > 0}
    space, labels = read_labels(path)
    total = labels.nodes.sum(2)
    spread = np.nanmax(total, axis=1) - np.nanmin(total, axis=1)
    return {space.topology.nodes[i]: float(spread[space.choice[i]]) for i in space.topology.weights}


def _of_search(run: RunFile, folder: Path) -> RunFile:
    """Return the run file with the bank and the search that a search's folder says were in effect."""
    file = folder / "effective.toml"
    if not file.exists():
        return run
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PredictorError(f"{file}: cannot be read: {why(error)}") from error
    parts: Table = {key: table[key] for key in ("prec", "bank", "search") if key in table}
    return replace(run, file=run.file | parts)


def _comparable(store: TrialStore, session: Session) -> list[Trial]:
    """Return the complete trials at the run file's fidelity, or at the only one that there is."""
    complete = [trial for trial in store if trial.state == "complete"]
    held = list(dict.fromkeys(trial.fidelity for trial in complete))
    if not held:
        raise PredictorError(f"{store.path}: no complete trial in {len(store)}")
    wanted = held[0] if len(held) == 1 else session.settings.search.evaluation.fidelity
    if wanted not in held:
        raise PredictorError(
            f"{store.path}: no trial at fidelity {wanted!r}, expected search.evaluation.fidelity = one of "
            f"{', '.join(held)}"
        )
    return [trial for trial in complete if trial.fidelity == wanted]


def _check(y: Floats, target: str, training: Training) -> None:
    folds_of(len(y), training)
    if np.ptp(y) == 0:
        raise PredictorError(f"target {target!r} is {y[0]:g} in all {len(y)} trials: there is nothing to rank")


def _check_own(path: Path, instead: str) -> None:
    """Raise PredictorError, with what to do `instead`, for labels that ``q2 predictor label`` did not make."""
    if path.exists() and (made := Labels.load(path).made).by != BY_LABEL:
        raise PredictorError(f"{path}: labels by {made.by or 'an earlier version of q2'} are not replaced; {instead}")


def _bridge(session: Session, store: TrialStore, made: Provenance) -> Bridge:
    """Load the denoiser of a store's trials and its bank, and return its space as the predictor sees it."""
    start = time.perf_counter()
    denoiser = session.denoiser
    mine, theirs = (denoiser.label, denoiser.fingerprint), (store.fingerprint.denoiser, store.fingerprint.checkpoint)
    if mine != theirs:
        raise PredictorError(f"{store.path}: trials of {theirs[0]} ({theirs[1]}), not of {mine[0]} ({mine[1]})")
    graph = session.graph
    session.show(Step("load", time.perf_counter() - start, f"{denoiser.source} ({denoiser.fingerprint})"))
    bank = find_bank(session, bank_folder(session, store.path.parent))
    space = session.space_of(graph)
    subject = Subject(denoiser.label, denoiser.fingerprint, bank.plan.calibration)
    costs = Costs.of_graph(graph, space, session.context(bank), bank)
    return Bridge.of(graph, space, costs, made=replace(made, subject=subject))


def _timed(  # noqa: PLR0917 (its callers have them all)
    graphs: GraphSet,
    target: str,
    training: Training,
    jobs: int,
    progress: Progress,
    show: Callable[[Step], None],
    known: Sequence[Prior] = (),
) -> Trained:
    start = time.perf_counter()
    trained = train(graphs, target, training, jobs, progress, priors=known)
    epochs = sum(fold.epochs for fold in trained.folds)
    show(Step("train", time.perf_counter() - start, f"{training.folds} folds, loss {training.loss}, {epochs} epochs"))
    return trained


def _same_denoiser(space: NodeSpace, session: Session, folder: Path) -> None:
    denoiser, flow = session.shapes, session.outline.flow()
    odd = next((name for name in space.topology.nodes if name not in flow), None)
    odd = odd or next((name for name in flow if name not in set(space.topology.nodes)), None)
    if odd is not None:
        raise PredictorError(f"{folder}: the predictor of another denoiser than {denoiser.label}, by {odd!r}")
