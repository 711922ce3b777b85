"""What a notebook needs; `import q2` re-exports it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from q2.arguments import texts, the_path, unexpected, whole, whole_numbers
from q2.config import DEFAULT, RunFile, shipped
from q2.denoisers import Ask, Denoiser
from q2.denoisers import load as denoiser
from q2.errors import ConfigError
from q2.exporters import Exported
from q2.exporters.kinds import EXPORTERS
from q2.graph import Graph, trace
from q2.passes import TextTable, run_passes
from q2.progress import Progress, silent
from q2.quant import Recipe
from q2.search.trials.trial import Trial
from q2.session.bank import BankReport, build_bank
from q2.session.calibrate import RowsReport, calibrate
from q2.session.evaluate import evaluate, evaluate_all
from q2.session.evaluated import Evaluation
from q2.session.export import export
from q2.session.given import FORM, folder_of, naming, path_of, with_denoiser, with_given
from q2.session.plan import Plan, plan_search
from q2.session.sample import Order, Pictures, pictures
from q2.session.search import SearchResult, search
from q2.session.session import Given, Session, quiet, run_folder
from q2.session.transform import Transformed
from q2.session.transform import transform as _transform
from q2.tables import facts

if TYPE_CHECKING:
    from q2.search.predictor.label import Labels
    from q2.session.compare import StrategyComparison
    from q2.session.predict import Fit

__all__ = ["Denoiser", "Graph", "Recipe", "Run", "denoiser", "open", "run_passes", "trace", "transform"]

Texts = str | Iterable[str]
Overrides = Mapping[str, object] | Texts


class Run(Session):
    """A session with all that can be done with it, as a notebook wants it. Made by `open`.

    Each method does what the command of its name does, and gives an object in place of printed lines; all of them show
    themselves as a short table. A single text is a list of one. `sample` writes nothing, `transform` and `evaluate`
    write nothing unless they are given a folder. What is wrong with an argument is a `ConfigError` naming it, before
    anything is loaded; other mistakes are a `Q2Error` of one line.

    >>> open("digits-dit", {"search.trials": 60})
    run of digits-dit.toml
      denoiser  digits-dit, pretrained, float32
      passes    stats, quantize, bops, size, report
      search    fisher, 60 trials, target latent-SQNR - 4*avg_bits
    """

    def __repr__(self) -> str:
        settings = self.settings
        wanted, looked = settings.denoiser, settings.search
        words = [wanted.name or wanted.model, wanted.checkpoint, wanted.weights, wanted.dtype]
        return facts(
            f"run of {self.run.name}",
            {
                "denoiser": ", ".join(filter(None, ["" if wanted.name or wanted.checkpoint else self.title, *words])),
                "passes": ", ".join(title for title, _ in self.passes),
                "search": f"{looked.strategy}, {looked.trials} trials, target {looked.target}",
                "constraints": ", ".join(looked.constraints),
            },
        )

    @property
    def units(self) -> TextTable:
        """The units of the denoiser's flow graph: their layers, which are chosen together; ``.x`` is one inside.

        >>> open("digits-dit").units.headers
        ('unit', 'layers', 'among them')
        """
        rows = [
            (unit.name, len(unit.layers), " ".join(name.removeprefix(unit.name) or name for name in unit.layers[:3]))
            for unit in self.outline.units()
        ]
        return TextTable(("unit", "layers", "among them"), tuple(rows))

    @property
    def layers(self) -> TextTable:
        """The weight layers: type, weights and multiply-accumulates.

        >>> len(open("digits-dit").layers.rows)
        39
        """
        rows = [(name, each.type, each.weights, each.macs) for name, each in self.outline.weight_layers.items()]
        return TextTable(("layer", "type", "weights", "MACs"), tuple(rows))

    def bank(self, folder: str | Path | None = None) -> BankReport:
        """Fit every option of every layer once, or what is missing, as ``q2 bank`` does.

        `folder` is where the bank is or will be; None: where the run file says. Raises `Q2Error`: a bank of another
        denoiser is there, or an option that no quantizer has.

        >>> from tempfile import TemporaryDirectory
        >>> run = open("digits-dit", {"bank.options": ["uaq-4"]})
        >>> with TemporaryDirectory() as folder:
        ...     print(run.bank(folder).fitted, run.bank(folder).fitted)
        39 0
        """
        return build_bank(self, folder_of(folder))

    def calibrate(self, folder: str | Path | None = None) -> RowsReport:
        """Denoise a few images and keep rows of what every layer reads, as ``q2 calibrate`` does.

        `folder` is where the rows are or will be; None: where the run file says, which is where a calibrated bank looks
        for them. Raises `Q2Error`: rows of another denoiser or other settings are there.

        >>> from tempfile import TemporaryDirectory
        >>> run = open("digits-dit", {"calibration.images": 1, "calibration.steps": 2, "calibration.rows": 8})
        >>> with TemporaryDirectory() as folder:
        ...     run.calibrate(folder).store.rows("proj_out_2").values.shape
        torch.Size([8, 256])
        """
        return calibrate(self, folder_of(folder))

    def plan(self) -> Plan:
        """Return what a search would take, as ``q2 search --dry-run`` does: space, bank, time, memory, disk.

        Raises `Q2Error` for what the search would stop at without its weights.

        >>> open("digits-dit").plan()["space"]
        'digits-dit · 39 weight layers in 13 units · 39 choices, 0 of them fixed'
        """
        return plan_search(self)

    def search(self, folder: str | Path | None = None) -> SearchResult:
        """Search for a recipe; stop it when you like and call it again with the same folder.

        `folder` keeps the trials and gets what was found; None: one under ``runs``, named after the time. Raises
        `Q2Error`: what the plan would raise, trials of another run in the folder, a bank that does not fit.

        >>> from tempfile import TemporaryDirectory
        >>> settings = {"search.trials": 4, "search.evaluation.fidelity": "weights", "search.engine.workers": 1}
        >>> settings |= {"search.target": "-quantized_error - 5*avg_bits", "bank.options": ["uaq-4", "uaq-3"]}
        >>> settings |= {"search.strategy": "random"}
        >>> with TemporaryDirectory() as folder:
        ...     found = open("digits-dit", settings).search(folder)
        >>> len(found.trials), found.best is not None
        (4, True)
        """
        return search(self, run_folder(path_of("folder", folder), f"{self.title}-search", "folder="))

    def compare(self, strategies: Texts, seeds: int = 5, folder: str | Path | None = None) -> "StrategyComparison":
        """Let strategies search with the same budget and `seeds` seeds each, as ``q2 search compare`` does.

        `strategies` are names, or tables of ``[search.strategies]``; `folder` is as in `search`. Raises `Q2Error`: a
        strategy that there is not, with the nearest name; one that is named twice.

        >>> from tempfile import TemporaryDirectory
        >>> settings = {"search.trials": 2, "search.evaluation.fidelity": "weights", "search.engine.workers": 1}
        >>> settings |= {"search.target": "-quantized_error - 5*avg_bits", "bank.options": ["uaq-4"]}
        >>> settings |= {"search.options": ["uaq-4", "none"]}
        >>> with TemporaryDirectory() as folder:
        ...     found = open("digits-dit", settings).compare("random", seeds=2, folder=folder)
        >>> [row[:2] for row in found.table.rows]
        [('random', 2), ('best baseline: uaq-4 everywhere', '')]
        """
        titles, seeds = texts("strategies", strategies), whole("seeds", seeds, 1)
        if not titles:
            raise unexpected("strategies", strategies, "one strategy or more, by name")
        place = run_folder(path_of("folder", folder), f"{self.title}-compare", "folder=")
        from q2.session.compare import compare

        return compare(self, titles, seeds, place)

    def predict(
        self,
        trials: SearchResult | str | Path,
        folder: str | Path | None = None,
        *,
        target: str = "",
        loss: Literal["srcc", "ndcg", "hybrid"] = "hybrid",
        embedding: Literal["plain", "fe-mlp"] = "plain",
        folds: int = 5,
        epochs: int = 60,
        seed: int = 12345,
        jobs: int = 1,
        device: str = "auto",
        attention: Literal["auto", "fused", "pyg"] = "auto",
    ) -> "Fit":
        """Train a predictor on a search's trials, as ``q2 predictor train`` does, and save it into `folder`.

        `trials` is what `search` returned, its folder or a trial store; `folder` None: ``predictor`` beside the trials.
        The other arguments are the command's options. Raises `Q2Error`: no trials there, too few of them, or of another
        denoiser.

        >>> from tempfile import TemporaryDirectory
        >>> settings = {"search.trials": 8, "search.evaluation.fidelity": "weights", "search.engine.workers": 1}
        >>> settings |= {"search.target": "-quantized_error - 5*avg_bits", "bank.options": ["uaq-4", "uaq-3"]}
        >>> settings |= {"search.strategy": "random"}
        >>> run = open("digits-dit", settings)
        >>> with TemporaryDirectory() as folder:
        ...     fit = run.predict(run.search(folder), folds=2, epochs=1)
        ...     labels = run.label(fit)
        >>> fit.trained.target, labels.options
        ('-quantized_error - 5*avg_bits', ('uaq-4', 'uaq-3'))
        """
        place = (
            trials.folder if isinstance(trials, SearchResult) else the_path("trials", trials, "a search or its folder")
        )
        if not isinstance(target, str):
            raise unexpected("target", target, "text, such as 'SQNR - 4*avg_bits'")
        out, jobs = folder_of(folder), whole("jobs", jobs, 1)
        folds, epochs, seed = whole("folds", folds, 2), whole("epochs", epochs, 1), whole("seed", seed, 0)
        from q2.search.predictor.train import Training
        from q2.session.predict import fit_trials

        training = Training(loss, embedding, folds=folds, epochs=epochs, seed=seed, device=device, attention=attention)
        return fit_trials(self, place, training, target=target, out=out, jobs=jobs)

    def label(self, predictor: "Fit | str | Path", out: str | Path | None = None) -> "Labels":
        """Score every option of every layer and every variant of every unit, as ``q2 predictor label`` does.

        `predictor` is what `predict` returned, or its folder; `out` the file, None: ``labels.npz`` in that folder. See
        `predict` for an example. Raises `Q2Error`: no predictor there, or that of another denoiser.

        >>> open("digits-dit").label("nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        q2.errors.PredictorError: nowhere: no predictor can be read: ...
        """
        from q2.session.predict import Fit, make_labels

        folder = predictor.folder if isinstance(predictor, Fit) else the_path("predictor", predictor, "a folder")
        return make_labels(folder, path_of("out", out), session=self, progress=self.progress)[0]

    def transform(self, recipe: Given | None = None, folder: str | Path | None = None) -> Transformed:
        """Run the passes, with a recipe in place of the run file's rules if one is given, as ``q2 transform`` does.

        `recipe` is a file, a `Recipe`, or a mapping from layer to option; `folder`, if given, gets report, recipe,
        settings and pictures. Raises `Q2Error`: a recipe or pass that does not fit the denoiser, before its weights are
        loaded.

        >>> run = open("digits-dit", {"samples.images": 0, "passes.stats.samples": 1})
        >>> packed = run.transform({"proj_out_2": "uaq-4"})
        >>> packed.recipe.layers["proj_out_2"], packed.table.headers
        (Option(quantizer='uaq', bits=4), ('pass', 'time', 'result'))
        """
        folder = folder_of(folder)
        return _transform(self._with(recipe), folder)

    def evaluate(self, recipe: Given, metrics: Texts = (), folder: str | Path | None = None) -> Trial:
        """Measure a recipe with the run's metrics, and with those named, as ``q2 evaluate`` does.

        `recipe` is as in `transform`; layers that it does not name stay as they are. `folder`, if given, keeps full
        precision's images for the next recipe. Raises `Q2Error`: a metric that there is not, with the nearest name, or
        an evaluation that fails.

        >>> settings = {"search.evaluation.fidelity": "forward", "search.evaluation.inputs": 2, "search.target": "SQNR"}
        >>> trial = open("digits-dit", settings).evaluate({"proj_out_2": "uaq-4"}, metrics="avg_bits")
        >>> "SQNR" in trial.metrics, "avg_bits" in trial.metrics
        (True, True)
        """
        names, folder = texts("metrics", metrics), folder_of(folder)
        with_given(self, recipe)
        return evaluate(self, recipe, names, folder)

    def evaluate_all(
        self,
        recipes: Mapping[str, Given],
        metrics: Texts = (),
        folder: str | Path | None = None,
        saved: Iterable[str | Path] = (),
    ) -> Evaluation:
        """Measure recipes, by title, and folders that ``save`` wrote; compare each with the first. See `evaluate`.

        >>> settings = {"search.evaluation.fidelity": "forward", "search.evaluation.inputs": 8, "search.target": "SQNR"}
        >>> settings["search.evaluation.metrics"] = []
        >>> found = open("digits-dit", settings).evaluate_all({"4 bits": {"proj_out_2": "uaq-4"}})
        >>> found.table.headers, list(found.trials)
        (('recipe', 'avg_bits', 'SQNR dB'), ['4 bits'])
        """
        names, folder = texts("metrics", metrics), folder_of(folder)
        for recipe in recipes.values():
            with_given(self, recipe)
        return evaluate_all(self, recipes, [Path(each) for each in saved], names, folder)

    def sample(  # noqa: PLR0917 (as the command has them)
        self,
        prompts: Texts = (),
        classes: Iterable[int] = (),
        n: int = 8,
        seed: int | None = None,
        steps: int | None = None,
        recipe: Given | None = None,
        compare: bool = False,
    ) -> Pictures:
        """Draw `n` images with the quantized denoiser, as ``q2 sample`` does; image i is the same in any batch.

        `prompts` or `classes` are taken in turn; `steps` None is the denoiser's own number, `seed` None the run file's.
        With `compare` the same images are drawn at full precision too. Raises `Q2Error`: what the denoiser cannot draw,
        or a recipe that does not fit it.

        >>> run = open("digits-dit")
        >>> run.sample(classes=[3, 5], n=2, steps=1)
        2 images of 32 x 32
        >>> run.sample(n=0)
        Traceback (most recent call last):
        q2.errors.ConfigError: n=0: expected a whole number, 1 or more
        """
        ask = Ask(texts("prompts", prompts), whole_numbers("classes", classes))
        if ask.prompts and ask.classes:
            raise ConfigError("prompts and classes: expected one of them")
        order = Order(
            ask,
            n=whole("n", n, 1),
            seed=self.settings.seed if seed is None else whole("seed", seed),
            steps=None if steps is None else whole("steps", steps, 1),
            compare=compare,
        )
        self.create_denoiser().check_classes(ask)
        return pictures(self._with(recipe), order)

    def export(self, to: str, out: str | Path, recipe: Given | None = None) -> Exported:
        """Write the quantized denoiser in another format, as ``q2 export`` does.

        `to` is the format (``dequantized``, ``gguf``, or a plugin's), `out` the folder or file; `recipe` is as in
        `transform`. Raises `Q2Error`: a format that nobody offers, with the nearest name, or nothing quantized.

        >>> open("digits-dit").export("gguff", "digits.gguf")
        Traceback (most recent call last):
        q2.errors.ConfigError: to='gguff': no exporter named 'gguff'; did you mean 'gguf'?
        """
        if not isinstance(to, str):
            raise unexpected("to", to, f"one of {', '.join(self.plugins.of(EXPORTERS))}")
        place = the_path("out", out, "the path of a folder or file")
        with naming(f"to={to!r}"):
            self.plugins.of(EXPORTERS).load(to)
        return export(self._with(recipe), to, place)

    def _with(self, recipe: Given | None) -> Session:
        return self if recipe is None else with_given(self, recipe)


def open(  # noqa: A001 (q2.open is what a reader expects)
    config: str | Path | None = None,
    overrides: Overrides = (),
    *,
    denoiser: str = "",
    checkpoint: str | Path = "",
    progress: Progress = silent,
) -> Run:
    """Open a run file, or a denoiser by name or checkpoint, and return what can be done with it; nothing is loaded yet.

    `config` is a run file or the name of a shipped one. Without it the shipped run file of `denoiser` is taken, else
    an empty one; with nothing given at all it is ``digits-dit.toml``. `overrides` are dotted keys with their values, or
    ``a.b=c`` as on the command line.

    A `denoiser` other than the run file's takes the place of its whole ``[denoiser]`` table: checkpoint, dtype and
    device as well, which `overrides` may set anew. `checkpoint` alone, a local folder or a Hub id, keeps that table
    and replaces the weights.

    Raises `ConfigError`, with the nearest name: no such run file, key, pass, option or denoiser.

    >>> run = open("digits-dit.toml", {"search.trials": 60})
    >>> run.settings.search.trials, len(run.units.rows)
    (60, 13)
    >>> open("digits-sdlx")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    q2.errors.ConfigError: digits-sdlx: no such run file; did you mean 'digits-sdxl.toml'? (shipped: ...
    """
    if not isinstance(denoiser, str):
        raise unexpected("denoiser", denoiser, "a denoiser's name, such as 'digits-dit'")
    if not callable(progress):
        raise unexpected("progress", progress, "a function such as q2.progress.silent")
    given = overrides if isinstance(overrides, Mapping) else texts("overrides", overrides)
    if isinstance(given, Mapping) and not all(isinstance(key, str) for key in given):
        raise unexpected("overrides", overrides, "dotted keys, such as 'search.trials', with their values")
    if config is None and f"{denoiser}.toml" in shipped():
        config = f"{denoiser}.toml"
    elif config is None and not denoiser and not checkpoint:
        config = DEFAULT
    if config is None:
        run = RunFile("q2.open", Path.cwd(), {}, form=FORM).overridden(given)
    else:
        run = RunFile.load(str(the_path("config", config, "a run file")), given, FORM)
    return Run(with_denoiser(run, denoiser, str(checkpoint and the_path("checkpoint", checkpoint))), progress, quiet)


def transform(config: str | Path = DEFAULT, overrides: Overrides = (), out: str | Path | None = None) -> Transformed:
    """Run a run file as ``q2 transform`` does, silently, and write what it gives into `out`. Raises `Q2Error`.

    `config` and `overrides` are as in `open`; `out` None: a folder under ``runs``, named after the time.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     done = transform("digits-dit", {"samples.images": 0, "passes.stats.samples": 1}, folder)
    >>> sorted(file.name for file in done.files)
    ['effective.toml', 'manifest.json', 'recipe.toml', 'report.json']
    """
    run = open(config, overrides)
    return run.transform(folder=run_folder(path_of("out", out), run.title, "out="))
