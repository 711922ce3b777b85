"""A plugin's transform runs wherever the run file is used: transform, sample, export and search agree."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from q2.config import RunFile
from q2.denoisers import Ask
from q2.errors import ConfigError
from q2.search.evaluation.evaluator import Evaluator, Job
from q2.session.bank import bank_folder, find_bank
from q2.session.evaluation import Loader, fingerprint_of, load, make_ready, make_reference, places_of
from q2.session.export import export
from q2.session.plot import plot_dag
from q2.session.sample import Order, sample
from q2.session.session import Session
from q2.session.transform import transform

from .correcting import CORRECTING

RUN = """
[denoiser]
name = "digits-dit"
[plugins]
modules = ["correcting.py"]
[passes.stats]
samples = 2
steps = 2
[passes.quantize]
linear = "uaq-4"
[passes.bias-correction]
strength = 0.5
[search]
options = ["uaq-4", "none"]
target = "SQNR - avg_bits"
evaluation = { fidelity = "forward", inputs = 2, few_steps = 2 }
"""


@pytest.fixture
def run(tmp_path: Path, one_option_bank: Path) -> RunFile:
    (tmp_path / "correcting.py").write_text(CORRECTING, encoding="utf-8")
    return written(tmp_path, RUN + f'[bank]\npath = "{one_option_bank}"\n')


def written(folder: Path, text: str) -> RunFile:
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return RunFile.load(str(folder / "run.toml"))


def biases(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    state = model.state_dict().items()
    return {name: tensor.detach().clone() for name, tensor in state if name.endswith("bias")}


def evaluator(run: RunFile, folder: Path) -> Evaluator:
    loaded = load(Session(run))
    make_reference(loaded, folder, ["forward"])
    made = Loader(run)()(places_of(Session(run), folder))
    assert isinstance(made, Evaluator)
    return made


def test_transform_sample_export_and_search_give_the_same_denoiser(run: RunFile, tmp_path: Path) -> None:
    session = Session(run)
    done = transform(session, tmp_path / "run", packed=tmp_path / "saved")
    titles = [result.title for result in done.results]
    assert titles == ["stats", "output-means (for bias-correction)", "quantize", "bias-correction"]
    expected = biases(done.denoiser.model)

    export(session, "dequantized", tmp_path / "plain")
    exported = load_file(tmp_path / "plain" / "transformer" / "diffusion_pytorch_model.safetensors")
    for name, bias in expected.items():
        assert torch.equal(exported[name], bias.half())

    order = Order(Ask(), n=1, seed=5, steps=2)
    sample(session, order, tmp_path / "simulated")
    saved = RunFile.load(str(tmp_path / "run.toml"), [f"denoiser.checkpoint={tmp_path / 'saved'}"])
    sample(Session(saved).of_saved(), order, tmp_path / "packed")
    simulated, packed = (np.asarray(Image.open(tmp_path / name / "0000.png")) for name in ("simulated", "packed"))
    assert np.array_equal(simulated, packed)

    worker = evaluator(run, tmp_path / "search")
    before = biases(worker.graph.model)
    assert any(not torch.equal(before[name], bias) for name, bias in expected.items())
    recipe = {name: str(option) for name, option in done.recipe.layers.items()}
    first = worker(Job(recipe, "forward")).trial
    assert first.state == "complete", first.error
    for name, bias in expected.items():
        torch.testing.assert_close(biases(worker.graph.model)[name], bias, rtol=0, atol=1e-6)
    full = worker(Job(dict.fromkeys(recipe, "none"), "forward")).trial
    assert full.metrics["SQNR"] == 100
    for name, bias in before.items():
        torch.testing.assert_close(biases(worker.graph.model)[name], bias, rtol=0, atol=1e-6)
    again = worker(Job(recipe, "forward")).trial
    assert again.metrics["SQNR"] == first.metrics["SQNR"]


def test_trials_of_other_transforms_or_of_other_calibration_belong_to_another_search(run: RunFile) -> None:
    def fingerprint(*sets: str) -> str:
        return fingerprint_of(Session(RunFile.load(str(run.folder / run.name), sets))).digest

    own = fingerprint()
    assert fingerprint('passes.quantize.linear="uaq-3"') == own
    assert fingerprint("passes.bias-correction.strength=1.0") != own
    assert fingerprint("passes.stats.samples=3") != own


def test_a_picture_needs_no_weights_and_leaves_out_what_does(run: RunFile, tmp_path: Path) -> None:
    rules = Session(RunFile.load(str(run.folder / run.name), ['passes.units.rules."."="all"']))
    line = plot_dag(rules, tmp_path / "dag.svg")
    assert line.startswith("1 units")
    assert line.endswith("; left out, as weights on meta have no values: bias-correction")


def test_a_transform_for_every_recipe_stands_behind_the_one_that_applies_it(run: RunFile) -> None:
    text = RUN.replace('[passes.quantize]\nlinear = "uaq-4"\n', "") + '[passes.quantize]\nlinear = "uaq-4"\n'
    with pytest.raises(ConfigError) as caught:
        Session(written(run.folder, text))
    message = "run.toml: passes.bias-correction: runs for every recipe, and has to stand behind passes.quantize"
    assert str(caught.value) == message


def test_a_search_refuses_a_transform_that_changes_the_weights_of_its_bank(run: RunFile, tmp_path: Path) -> None:
    doubling = CORRECTING.replace("per_recipe: ClassVar[bool] = True", "per_recipe: ClassVar[bool] = False")
    doubling = doubling.replace("bias +=", "graph.weight_layers[name].module.weight.mul_(2); bias +=")
    (run.folder / "correcting.py").write_text(doubling, encoding="utf-8")
    loaded = load(Session(run))
    bank = find_bank(loaded.session, bank_folder(loaded.session, tmp_path))
    with pytest.raises(
        ConfigError, match=r"^run\.toml: a transform changed the weight of '.*', which the bank was fitted"
    ):
        make_ready(loaded, bank)


def test_a_trial_says_what_a_search_cannot_undo(run: RunFile, tmp_path: Path) -> None:
    doubling = CORRECTING.replace("bias +=", "graph.weight_layers[name].module.weight.mul_(2); bias +=")
    (run.folder / "correcting.py").write_text(doubling, encoding="utf-8")
    worker = evaluator(run, tmp_path / "search")
    trial = worker(Job(dict.fromkeys(worker.costs.space.layers, "uaq-4"), "forward")).trial
    assert "'bias-correction' changed the weight of " in trial.error
    assert trial.error.endswith("and has no undo() for a search")
