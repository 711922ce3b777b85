"""The Python API: mistakes are one line with the argument's name, before work; results are short tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import q2
import q2.api
from q2.denoisers import Denoiser
from q2.errors import PredictorError, Q2Error
from q2.graph import Graph
from q2.passes import TextTable
from q2.passes.analysis.size import Size
from q2.quant import Recipe
from q2.search.trials.table import TrialTable
from q2.search.trials.trial import Trial
from q2.session.session import Session

WEIGHTS: dict[str, object] = {
    "search.trials": 4,
    "search.strategy": "random",
    "search.evaluation.fidelity": "weights",
    "search.engine.workers": 1,
    "search.target": "-quantized_error - 5*avg_bits",
    "bank.options": ["uaq-4", "uaq-3"],
    "samples.images": 0,
    "passes.stats.samples": 1,
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> q2.Run:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("")
    return q2.open("digits-dit", WEIGHTS)


def _given(value: object) -> Any:
    """Return what a type checker would not let through."""
    return value


def said(call: Callable[[], object]) -> str:
    with pytest.raises(Q2Error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_single_text_is_one_item_everywhere(run: q2.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert q2.open("digits-dit.toml", "search.trials=4").settings.search.trials == 4
    orders: list[Any] = []
    monkeypatch.setattr(q2.api, "pictures", lambda session, order: orders.append(order))
    q2.open("digits-sdxl").sample("seven", n=1)
    q2.open("digits-sdxl").sample(["seven", "two"], n=_given(np.int64(2)))
    assert [order.ask.prompts for order in orders] == [("seven",), ("seven", "two")]
    seen: list[object] = []
    monkeypatch.setattr(q2.api, "evaluate", lambda *given: seen.append(given[2]))
    run.evaluate({"proj_out_2": "uaq-4"}, metrics="PSNR")
    assert seen == [("PSNR",)]
    assert "no strategy named 'randon'; did you mean 'random'" in said(lambda: run.compare("randon"))
    run.sample(classes=np.array([3, 5]), n=1)
    assert orders[-1].ask.classes == (3, 5)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda run: run.sample(n=0), "n=0: expected a whole number, 1 or more"),
        (lambda run: run.sample(n=-3), "n=-3: expected a whole number, 1 or more"),
        (lambda run: run.sample(n=2.0), "n=2.0: expected a whole number, 1 or more"),
        (lambda run: run.sample(n=True), "n=True: expected a whole number, 1 or more"),
        (lambda run: run.sample(steps=0), "steps=0: expected a whole number, 1 or more"),
        (lambda run: run.sample(steps="4"), "steps='4': expected a whole number, 1 or more"),
        (lambda run: run.sample(seed=1.5), "seed=1.5: expected a whole number"),
        (lambda run: run.sample(classes=3), "classes=3: expected a list of whole numbers, 0 or more, such as [3, 5]"),
        (
            lambda run: run.sample(classes="3"),
            "classes='3': expected a list of whole numbers, 0 or more, such as [3, 5]",
        ),
        (
            lambda run: run.sample(classes=["3"]),
            "classes=['3']: expected a list of whole numbers, 0 or more, such as [3, 5]",
        ),
        (
            lambda run: run.sample(classes=[3.5]),
            "classes=[3.5]: expected a list of whole numbers, 0 or more, such as [3, 5]",
        ),
        (
            lambda run: run.sample(classes=[-1]),
            "classes=[-1]: expected a list of whole numbers, 0 or more, such as [3, 5]",
        ),
        (lambda run: run.sample(prompts=[3]), "prompts=[3]: expected text, or a list of texts"),
        (lambda run: run.sample("a", [3]), "prompts and classes: expected one of them"),
        (lambda run: run.bank("a-file"), "folder=a-file: a-file is a file, expected a folder"),
        (lambda run: run.bank(5), "folder=5: expected a path"),
        (lambda run: run.search("a-file"), "folder=a-file: a-file is a file, expected a folder"),
        (lambda run: run.transform(folder="a-file/x"), "folder=a-file/x: a-file is a file, expected a folder"),
        (lambda run: run.evaluate({}, folder=""), "folder='': expected a path"),
        (lambda run: run.evaluate({}, metrics=5), "metrics=5: expected text, or a list of texts"),
        (lambda run: run.compare([]), "strategies=[]: expected one strategy or more, by name"),
        (lambda run: run.compare("random", seeds=0), "seeds=0: expected a whole number, 1 or more"),
        (lambda run: run.predict(5), "trials=5: expected a search or its folder"),
        (lambda run: run.predict("m", folds=1), "folds=1: expected a whole number, 2 or more"),
        (lambda run: run.predict("m", target=5), "target=5: expected text, such as 'SQNR - 4*avg_bits'"),
        (
            lambda run: q2.open(progress=_given(5)),
            "progress=5: expected a function such as q2.progress.silent",
        ),
        (lambda run: run.label(None), "predictor=None: expected a folder"),
        (lambda run: run.export("gguf", None), "out=None: expected the path of a folder or file"),
        (lambda run: q2.open(_given(5)), "config=5: expected a run file"),
        (lambda run: q2.open("digits-dit", _given(5)), "overrides=5: expected text, or a list of texts"),
        (
            lambda run: q2.open("digits-dit", _given({5: 3})).run,
            "overrides={5: 3}: expected dotted keys, such as 'search.trials', with their values",
        ),
        (lambda run: q2.open(denoiser=_given(5)), "denoiser=5: expected a denoiser's name, such as 'digits-dit'"),
        (lambda run: q2.open(checkpoint=_given(5)), "checkpoint=5: expected a path"),
        (lambda run: q2.transform("digits-dit", (), "a-file"), "out=a-file: a-file is a file, expected a folder"),
        (lambda run: q2.denoiser(_given(5)), "name=5: expected a denoiser's name, such as 'digits-dit'"),
        (lambda run: q2.trace(_given(5), {}), "model=5: expected a torch.nn.Module, such as a denoiser's model"),
        (lambda run: q2.run_passes(_given(5), []), "graph=5: expected a graph, as q2.trace returns it"),
    ],
)
def test_a_wrong_argument_is_one_line_and_nothing_is_loaded(
    run: q2.Run, monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], object], line: str
) -> None:
    def load(session: Session) -> Denoiser:
        raise AssertionError("something was loaded")

    monkeypatch.setattr(Session, "create_denoiser", load)
    assert said(lambda: call(run)) == line


@pytest.mark.parametrize("recipe", [5, ["proj_out_2"], {"proj_out_2": 4}, {3: "uaq-4"}])
def test_what_is_no_recipe_is_one_line_of_every_method(run: q2.Run, recipe: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: run.transform(recipe),
        lambda: run.evaluate(recipe),
        lambda: run.sample(recipe=recipe),
        lambda: run.export("gguf", "x.gguf", recipe),
    ]
    for call in calls:
        line = f"recipe={recipe!r}: expected a recipe's file, a q2.Recipe, or a mapping from layer to option"
        assert said(call) == line
    assert said(lambda: run.evaluate(_given(None))).startswith("recipe=None: expected a recipe's file")


@pytest.mark.parametrize(
    ("recipe", "start"),
    [
        ("missing.toml", "recipe: missing.toml: cannot be read"),
        ({"proj_out_3": "uaq-4"}, "recipe: no layer is named 'proj_out_3'; did you mean 'proj_out_2'"),
        ({"proj_out_2": "uaw-4"}, "recipe: proj_out_2: no quantizer named 'uaw'; did you mean 'uaq'"),
        (Recipe.of({"x": "uaq-4"}, "sdxl", "", 4.0), "recipe: the recipe is for 'sdxl', not for 'digits-dit'"),
    ],
)
def test_a_recipe_that_does_not_fit_names_the_argument_before_weights_are_loaded(
    run: q2.Run, monkeypatch: pytest.MonkeyPatch, recipe: Any, start: str
) -> None:
    monkeypatch.setattr(q2.api, "_transform", None)
    monkeypatch.setattr(q2.api, "evaluate", None)
    monkeypatch.setattr(q2.api, "pictures", None)
    for method in (run.transform, run.evaluate, lambda recipe: run.sample(recipe=recipe)):
        assert said(lambda method=method: method(recipe)).startswith(start)  # type: ignore[misc]


def test_what_a_denoiser_cannot_draw_is_said_before_it_is_traced(run: q2.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def trace(*given: object) -> Graph:
        raise AssertionError("the denoiser was traced")

    monkeypatch.setattr("q2.session.session.Session._traced", trace)
    assert said(lambda: run.sample("seven")) == "digits-dit draws classes, 0 to 9, and takes no prompt"
    assert said(lambda: run.sample(classes=[12])) == "class 12 is outside 0 to 9"


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda: q2.open("digits-dit", {"search.trails": 4}),
            "digits-dit.toml, overrides['search.trails']: unknown key; did you mean 'trials'?",
        ),
        (
            lambda: q2.open("digits-dit", ["search.trials=many"]),
            "digits-dit.toml, overrides['search.trials']: should be a valid integer, not \"many\"",
        ),
        (lambda: q2.open("digits-dit", "seed"), "overrides['seed']: expected key=value"),
        (
            lambda: q2.open("digits-dit", {"a b": 3}),
            "overrides['a b']: expected a dotted key, such as 'search.trials'",
        ),
        (
            lambda: q2.open("digits-dit", {"a=1\nb": 3}),
            "overrides['a=1\\nb']: expected a dotted key, such as 'search.trials'",
        ),
        (
            lambda: q2.open(denoiser="digits-sdlx"),
            "q2.open, denoiser='digits-sdlx': no denoiser named 'digits-sdlx'; did you mean 'digits-sdxl'?",
        ),
        (
            lambda: q2.open("digits-dit", {"denoiser.name": "digits-sdlx"}),
            "digits-dit.toml, overrides['denoiser.name']: no denoiser named 'digits-sdlx'; did you mean 'digits-sdxl'?",
        ),
        (
            lambda: q2.open(checkpoint="nowhere").outline,
            "q2.open, checkpoint='nowhere': checkpoint 'nowhere': no such folder, and not a Hub id (owner/name)",
        ),
        (
            lambda: q2.open("digits-dit", {"denoiser.name": "dit"}, denoiser="digits-sdxl"),
            "denoiser='digits-sdxl' and overrides['denoiser.name']: leave one out",
        ),
        (
            lambda: q2.open("digits-dit", {"denoiser.checkpoint": "a"}, checkpoint="b"),
            "checkpoint='b' and overrides['denoiser.checkpoint']: leave one out",
        ),
    ],
)
def test_open_names_what_was_written_in_python(call: Callable[[], object], line: str) -> None:
    assert said(call) == line


def test_open_names_the_nearest_run_file() -> None:
    assert "digits-sdlx: no such run file; did you mean 'digits-sdxl.toml'?" in said(lambda: q2.open("digits-sdlx"))


def test_another_denoiser_takes_the_place_of_the_run_files_whole_table(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('seed = 3\n[denoiser]\nname = "sdxl"\ncheckpoint = "owner/other"\ndtype = "float16"\n')
    run = q2.open(file, denoiser="digits-sdxl")
    wanted = run.settings.denoiser
    assert (run.settings.seed, wanted.name, wanted.checkpoint, wanted.dtype) == (3, "digits-sdxl", "", "float32")
    wanted = q2.open(file, {"denoiser.dtype": "bfloat16"}, denoiser="digits-sdxl").settings.denoiser
    assert (wanted.name, wanted.dtype) == ("digits-sdxl", "bfloat16")
    wanted = q2.open(file, denoiser="sdxl").settings.denoiser
    assert (wanted.checkpoint, wanted.dtype) == ("owner/other", "float16")
    wanted = q2.open(file, checkpoint=tmp_path).settings.denoiser
    assert (wanted.name, wanted.checkpoint, wanted.dtype) == ("sdxl", str(tmp_path), "float16")


def test_numbers_of_numpy_are_numbers_in_overrides() -> None:
    settings = q2.open("digits-dit", {"search.trials": np.int64(6), "search.build.avg_bits": np.float32(3.5)}).settings
    assert (settings.search.trials, settings.search.build.avg_bits) == (6, 3.5)


def test_run_passes_takes_one_pass_and_refuses_what_is_none(graph: Graph) -> None:
    (result,) = q2.run_passes(graph, Size())
    assert result.report.data["avg_bits"] == 16.0
    assert repr(result).startswith("size: 10.76 MB, 16.000 bits a weight")
    assert said(lambda: q2.run_passes(graph, _given(["size"]))).startswith("passes='size': expected passes")
    assert said(lambda: q2.run_passes(graph, [], seed=_given("a"))) == "seed='a': expected a whole number"


def test_long_tables_show_twenty_rows_and_how_many_more() -> None:
    table = TextTable(("layer", "weights"), tuple((f"layer {i}", i) for i in range(50)))
    for text in (repr(table), str(table)):
        assert text.splitlines()[-2:] == ["layer 19         19", "... 30 more"]
    assert table._repr_html_().count("<tr>") == 51
    trials = TrialTable(
        [Trial({"a": "uaq-4"}, {"avg_bits": 4.0 + i}, number=i) for i in range(25)], list(map(float, range(25)))
    )
    assert len(repr(trials).splitlines()) == 2 + 20 + 1
    assert repr(trials).endswith("... 5 more")
    assert repr(trials[3:5]).splitlines()[2:] == [
        "3         complete  full               3           7",
        "4         complete  full               4           8",
    ]
    assert repr(trials[3]) == "trial 3: 1 layer, complete, full, avg_bits 7"
    assert repr(TrialTable()) == "no trials"


def test_results_show_themselves_in_a_few_aligned_lines(run: q2.Run, tmp_path: Path) -> None:
    found = run.search("mine")
    plan = run.plan()
    moved = run.transform({"proj_out_2": "uaq-4"})
    assert repr(run).splitlines()[:2] == ["run of digits-dit.toml", "  denoiser  digits-dit, pretrained, float32"]
    assert str(found).splitlines()[0] == (
        "search of digits-dit: 4 trials, target -quantized_error - 5*avg_bits, in mine/"
    )
    assert "← not beaten" in repr(found)  # uaq-4 everywhere is better by this target
    assert [line.split()[0] for line in repr(plan).splitlines()[2:]] == [step.title for step in plan]
    assert plan["disk"] == "reference ≈ 0 MiB"
    assert said(lambda: plan["disc"]).startswith("a plan has no step 'disc'; did you mean 'disk'?")
    assert repr(moved).splitlines()[0].startswith("digits-dit at 15.")
    assert [line.split()[0] for line in repr(moved).splitlines()[3:]] == ["stats", "quantize", "bops", "size", "report"]
    assert repr(moved.recipe).splitlines()[-1] == "... 19 more"
    for shown in (run, found, found.best, found.trials, found.front, plan, moved, moved.recipe, run.layers, run.units):
        assert len(repr(shown).splitlines()) <= 25
        assert max(map(len, repr(shown).splitlines())) <= 160


def test_compare_predict_and_label_do_what_the_commands_do(run: q2.Run) -> None:
    run = q2.open("digits-dit", WEIGHTS | {"search.trials": 8})
    compared = run.compare(["random", "greedy"], seeds=1, folder="c")
    assert [str(row[0]).split(":")[0] for row in compared.table.rows] == ["random", "greedy", "best baseline"]
    assert {file.name for file in compared.files} == {"compare.json", "compare.csv", "compare.png", "compare.svg"}
    assert repr(compared).splitlines()[0] == "2 searches of 8 trials, in c/"
    found = run.search("mine")
    fit = run.predict(found, folds=2, epochs=1)
    assert fit.folder == Path("mine/predictor")
    again = run.predict("mine", "other", folds=2, epochs=1)
    assert again.trained.summary() == fit.trained.summary()
    assert "SRCC" in repr(fit)
    labels = run.label(fit)
    assert (labels.nodes.shape, Path("mine/predictor/labels.npz").is_file()) == ((39, 2, 2), True)
    assert repr(labels).startswith("39 layers with 2 options, ")
    with pytest.raises(PredictorError, match=r"\d+ trials for 9 folds, expected at least 27"):
        run.predict(found, folds=9)


def test_an_export_says_its_format_before_the_denoiser_is_loaded(run: q2.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(q2.api, "export", None)
    assert said(lambda: run.export("gguff", "x")) == "to='gguff': no exporter named 'gguff'; did you mean 'gguf'?"


def test_pictures_show_what_differs(run: q2.Run) -> None:
    made = run.sample(classes=[3], n=2, steps=1, compare=True)
    title, head, _, *rows = repr(made).splitlines()
    assert title.startswith("2 images of 32 x 32, mean PSNR dB ")
    assert head.split()[0] == "image"
    assert [row.split()[0] for row in rows] == ["0000", "0001"]


def test_every_public_name_of_a_run_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    own = [name for name in vars(q2.Run) if not name.startswith("_")]
    assert [name for name in own if f"run.{name}" not in text] == []
    for name in own:
        lines = (getattr(q2.Run, name).__doc__ or "").splitlines()
        assert any(line.strip().startswith(">>>") for line in lines), name
