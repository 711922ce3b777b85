"""What the blocks of a page need before they run: files and names that the page's text takes for granted."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.docs.pages import ROOT

Run = Callable[[str], None]
"""Runs a command of q2, without its first word."""
Prepare = Callable[[Run], Mapping[str, object] | None]

SMALL = (
    "--set search.evaluation.images=2 --set search.evaluation.inputs=2 --set search.evaluation.steps=2"
    " --set search.engine.workers=1 --set calibration.images=2 --set calibration.steps=2"
    ' --set \'bank.options=["uaq-4","kmeans-c-4","uaq-3","kmeans-c-2"]\''
    " --set 'search.evaluation.metrics=[\"judge-accuracy\"]'"
)
"""What makes a search on the embedded denoisers short."""


def a_model(run: Run) -> Mapping[str, object]:
    """Any module of diffusers, as `model`."""
    from diffusers import DiTTransformer2DModel

    return {"model": DiTTransformer2DModel(num_layers=1, num_attention_heads=2, attention_head_dim=4, sample_size=8)}


def a_strategy(run: Run) -> Mapping[str, object]:
    """A strategy, as `Mine`."""
    from q2.search.strategies.random import Random

    return {"Mine": Random}


NAMES = ("other.toml", "other-recipe.toml", "runs/a/recipe.toml", "runs/b/recipe.toml")


def recipes(run: Run) -> None:
    """Recipes of digits-dit, under the names that pages give to somebody's own."""
    import q2

    names = [name for name, _ in q2.open("digits-dit.toml").outline.weight_layers.items()]
    for number, file in enumerate(NAMES):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        options = {name: "uaq-3" if index % 3 == number % 3 else "uaq-4" for index, name in enumerate(names)}
        q2.Recipe.of(options, "digits-dit", "", 4.0).save(Path(file))


def a_search(run: Run) -> None:
    """A search of digits-dit: trials in RUN, RUN_1 and RUN_2, labels in runs/a/predictor and runs/b/predictor."""
    folds = "--set search.strategies.predictor.folds=2"
    run(f"search --trials 14 --out RUN {SMALL} --strategy predictor {folds}")
    for name in ("RUN_1", "RUN_2"):
        shutil.copytree("RUN", name)
    for name in ("a", "b"):
        shutil.copytree("RUN/predictor", f"runs/{name}/predictor")
    run("trials export RUN --format json --out trials.json")


def a_recipe(run: Run) -> None:
    """The recipe of a search, without its trials."""
    Path("runs/mine").mkdir(parents=True)
    shutil.copy("runs/a/recipe.toml", "runs/mine/recipe.toml")


def a_saved_pipeline(run: Run) -> None:
    """What `q2 transform --save` wrote, in my-digits."""
    run("transform --set samples.images=0 --set passes.quantize.default=uaq-4 --save my-digits")


def a_bank(run: Run) -> None:
    """The bank of digits-dit, in bank/digits-dit."""
    run('bank --set \'bank.options=["uaq-4","kmeans-c-4"]\'')


def runs(run: Run) -> None:
    """Folders of runs, to be reported."""
    for name in ("mine", "one", "another"):
        run(f"transform --set samples.images=2 --set passes.quantize.default=uaq-4 --out runs/{name}")


def a_quantizer(run: Run) -> None:
    """A quantizer in my_quant.py, a run file that names it, and a pipeline in saved that needs it."""
    run("new plugin my-quant --kind quantizer")
    source = Path("q2-plugin-my-quant/q2_plugin_my_quant/quantizer.py").read_text(encoding="utf-8")
    hook = "@hookimpl\ndef q2_quantizers():\n    return {'my-quant': MyQuantQuantizer}\n"
    Path("my_quant.py").write_text(f"{source}\n\nfrom q2.plugins import hookimpl\n\n{hook}", encoding="utf-8")
    text = '[denoiser]\nname = "digits-dit"\n[plugins]\nmodules = ["my_quant.py"]\n'
    Path("run.toml").write_text(f'{text}[passes.quantize]\ndefault = "my-quant-4"\n', encoding="utf-8")
    run("--trust transform --config run.toml --save saved")


def trials_of_layers(run: Run) -> Mapping[str, object]:
    """A traced graph, and sizes, errors and trials of its layers."""
    import q2

    digits = q2.denoiser("dit", weights="meta", tiny=True)
    graph = q2.trace(digits.model, digits.example_inputs())
    options, rng = ("uaq-3", "uaq-4"), np.random.default_rng(0)
    layers = [node for node, data in graph.flow().nodes(data=True) if data["kind"] == "weight"]
    drawn = [{layer: str(rng.choice(options)) for layer in layers} for _ in range(40)]
    made = [q2.Recipe.of(each, "dit", "", 3.5) for each in drawn]
    return {
        "graph": graph,
        "options": options,
        "bits": {layer: {"uaq-3": 316.0, "uaq-4": 416.0} for layer in layers},
        "weights": dict.fromkeys(layers, 100),
        "errors": {layer: {"uaq-3": 0.04, "uaq-4": 0.01} for layer in layers},
        "recipes": made,
        "scores": np.array([sum(option == "uaq-4" for option in each.values()) for each in drawn], dtype=float),
    }


def graphs(run: Run) -> None:
    """The graphs that are shipped as an example, and one that the page shows."""
    shutil.copytree(ROOT / "examples" / "nas", "examples/nas")
    found: dict[str, Any] = json.loads((ROOT / "examples" / "nas" / "graphs.json").read_text(encoding="utf-8"))
    Path("graphs.json").write_text(json.dumps(found), encoding="utf-8")


NEEDED: Mapping[str, tuple[Prepare, ...]] = {
    "denoisers.md": (a_model,),
    "search.md": (a_strategy,),
}
"""By page, what is prepared before its first block."""
NEEDED_BY_LONG: Mapping[str, tuple[Prepare, ...]] = {
    "README.md": (recipes,),
    "bank.md": (a_bank,),
    "how-to.md": (recipes,),
    "predictor.md": (a_search, trials_of_layers, graphs),
    "python.md": (recipes,),
    "report.md": (runs,),
    "saving.md": (a_quantizer,),
    "trials.md": (recipes, a_recipe, a_saved_pipeline, a_search),
}
"""By page, what is prepared beside it before blocks that take long."""
