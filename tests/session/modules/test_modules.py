"""Runs over modules: transform, save and load, training and searches, from run files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from q2.config import RunFile
from q2.errors import CheckpointError, ConfigError, Q2Error
from q2.passes import Step
from q2.passes.analysis.flops import FLOPS
from q2.search.lists import ListSpace
from q2.session.modules.saving import load_graph
from q2.session.modules.search import search_module
from q2.session.modules.session import ModuleSession
from q2.session.modules.training import train_module
from q2.session.modules.transform import transform_module
from q2.session.modules.trials import Searched, applied
from q2.session.session import Session
from q2.settings import SpaceSettings


def session_of(config: str, **overrides: object) -> ModuleSession:
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    return ModuleSession.of(Session(RunFile.load(config, named)))


def written(folder: Path, text: str) -> str:
    path = folder / "run.toml"
    path.write_text(text)
    return str(path)


def test_a_transform_evaluates_before_and_after_and_writes_its_tables(tmp_path: Path) -> None:
    steps: list[Step] = []
    session = session_of("jsc-tiny.toml", passes__latency__repeats=2)
    session.show = steps.append
    outcome = transform_module(session, tmp_path / "out")
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.before.accuracy > 0.62
    assert abs(outcome.before.accuracy - outcome.after.accuracy) < 0.02
    assert outcome.before.loss != outcome.after.loss
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["passes"]["change-table"]["changed"] == 1
    assert report["test"]["after"]["accuracy"] == outcome.after.accuracy
    names = {path.name for path in outcome.files}
    assert names >= {"report-graph.txt", "node-meta.txt", "node-meta.json", "weights-histogram.png", "report.json"}
    again = RunFile.load(str(tmp_path / "out" / "effective.toml")).settings
    assert again.model.name == "jsc-tiny"
    assert [step.title for step in steps[:3]] == ["load", "trace", "before"]


ALL = """
[model]
name = "digits-cnn"
[passes.fuse-bn]
[passes.channel-width]
by = "regex"
"block1.conv1" = 2
[passes.quantize]
by = "regex"
"stem" = "uaq-4"
[passes.quantize."block2.conv1".config]
name = "mxfp"
weight_width = 4
data_in_width = 8
[passes.quantize.head.config]
name = "integer"
weight_width = 8
bias_width = 8
[passes.flops]
"""


def test_a_saved_graph_is_loaded_with_what_changed_and_its_facts(tmp_path: Path) -> None:
    outcome = transform_module(session_of(written(tmp_path, ALL)), None, save=tmp_path / "saved")
    model, graph = load_graph(tmp_path / "saved")
    inputs = outcome.model.example_inputs()
    with torch.no_grad():
        assert torch.equal(model.module(**inputs), outcome.model.module(**inputs))
    assert [str(each) for each in graph.model.modules()][1:] == [str(each) for each in outcome.graph.model.modules()][
        1:
    ]
    assert graph.facts.get(FLOPS) == outcome.graph.facts.get(FLOPS)
    run = session_of(written(tmp_path, f'[model]\nsaved = "{tmp_path / "saved"}"\n[passes.avg-bits]\n'))
    second = transform_module(run, None)
    assert second.before is not None
    assert outcome.after is not None
    assert second.before.accuracy == outcome.after.accuracy
    head = json.loads((tmp_path / "saved" / "graph.json").read_text())
    (tmp_path / "saved" / "graph.json").write_text(json.dumps(head | {"version": 7}))
    with pytest.raises(CheckpointError, match="expected a graph that q2 saved, version 1"):
        load_graph(tmp_path / "saved")
    with pytest.raises(Q2Error, match="already exists"):
        transform_module(session_of(written(tmp_path, ALL)), None, save=tmp_path / "saved")


def test_training_writes_weights_that_a_run_can_name(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"model__weights": "random", "train__epochs": 2, "data__arguments": {"samples": 3000}}
    session = session_of("jsc-tiny.toml", plugins__modules=["q2.plugins.tensorboard"], **wanted)
    trained = train_module(session, tmp_path / "trained")
    assert len(trained.epochs) == 2
    state = load_file(tmp_path / "trained" / "model.safetensors")
    assert set(state) == set(session.fork().model.module.state_dict())
    weight = state["seq_blocks.2.weight"]
    assert not bool((weight * 16 % 1 == 0).all())  # trained through the rounding, and kept at full precision
    place = str(tmp_path / "trained" / "model.safetensors")
    again = session_of("jsc-tiny.toml", model__weights=place, data__arguments={"samples": 3000})
    outcome = transform_module(again, None)
    assert outcome.after is not None
    assert outcome.after.accuracy == trained.score.accuracy
    assert list((tmp_path / "trained" / "tensorboard").glob("events*"))


SEARCH: dict[str, Any] = {"search__engine__workers": 1, "search__runner__samples": 500}


def test_brute_force_and_tpe_try_the_sixteen_configurations_and_resume(tmp_path: Path) -> None:
    session = session_of("jsc-tiny-search.toml", **SEARCH)
    original = {key: each.clone() for key, each in session.fork().model.module.state_dict().items()}
    found = search_module(session, tmp_path / "brute")
    assert len(found.trials) == 16
    assert len({json.dumps(dict(trial.recipe), sort_keys=True) for trial in found.trials}) == 16
    for trial in found.trials:
        data_in, weight = (int(trial.recipe[f"seq_blocks.2:{key}_width"]) for key in ("data_in", "weight"))
        assert trial.metrics["bitops"] == 80 * data_in * weight
        assert trial.metrics["weight_bits"] == 80 * weight
        assert trial.metrics["average_bitwidth"] == (data_in + weight) / 2
        assert trial.metrics["latency"] > 0
    assert found.best is not None
    assert found.best in found.front
    again = search_module(session_of("jsc-tiny-search.toml", **SEARCH), tmp_path / "brute")
    assert [trial.metrics for trial in again.trials] == [trial.metrics for trial in found.trials]
    tpe = search_module(
        session_of("jsc-tiny-search.toml", **SEARCH, search__strategies__optuna__sampler="tpe"), tmp_path / "tpe"
    )
    assert len(tpe.trials) == 16
    best = session_of(str(tmp_path / "brute" / "best.toml"))
    outcome = transform_module(best, None)
    assert outcome.results[0].report.data["changed"] == 1
    assert all(torch.equal(session.fork().model.module.state_dict()[key], each) for key, each in original.items())


def test_fifty_trials_leave_the_original_graph_bit_identical() -> None:
    searched = Searched(session_of("jsc-tiny-search.toml"))
    graph, space = searched.graph, searched.space
    before = {key: each.clone() for key, each in graph.model.state_dict().items()}
    text, layers = str(graph.fx), str(graph.model)
    with torch.no_grad():
        output = graph(**graph.example_inputs)
    for number in range(50):
        mine = applied(graph, "quantize", space.configs(space.draw(0, number)), 0)
        for parameter in mine.model.parameters():
            parameter.data.add_(1.0)  # what a training would do
    assert all(torch.equal(graph.model.state_dict()[key], each) for key, each in before.items())
    assert (str(graph.fx), str(graph.model)) == (text, layers)
    with torch.no_grad():
        assert torch.equal(graph(**graph.example_inputs), output)


def test_a_search_for_channels_trains_every_trial(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"train__epochs": 1, "data__arguments": {"samples": 2000}, "search__trials": 3}
    session = session_of("jsc-three-linear-search.toml", search__engine__workers=1, **wanted)
    found = search_module(session, tmp_path)
    assert len(found.trials) == 3
    for trial in found.trials:
        first, second = (16 * int(trial.recipe[f"seq_blocks.{i}:channel_multiplier"]) for i in (2, 4))
        assert trial.metrics["flops"] == 16 * first + first * second + second * 5
        assert trial.metrics["accuracy"] > 0.2
        assert trial.seconds < 5
    assert "channel_multiplier" in (tmp_path / "best.toml").read_text()


@pytest.mark.parametrize("strategy", ["random", "evolution", "exhaustive"])
def test_other_strategies_search_lists_too(tmp_path: Path, strategy: str) -> None:
    session = session_of("jsc-tiny-search.toml", **SEARCH, search__strategy=strategy)
    found = search_module(session, tmp_path)
    assert found.trials
    assert not found.failed


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsgaii", "nsgaiii", "qmc", "gp"])
def test_every_sampler_of_optuna_searches_lists(tmp_path: Path, sampler: str) -> None:
    few: dict[str, Any] = {"search__trials": 4, "search__strategies__optuna__sampler": sampler}
    found = search_module(session_of("jsc-tiny-search.toml", **SEARCH | few), tmp_path)
    assert len(found.trials) == 4
    assert not found.failed


def test_a_search_on_two_workers_gives_the_same_metrics(tmp_path: Path) -> None:
    one = search_module(session_of("jsc-tiny-search.toml", **SEARCH), tmp_path / "one")
    two = search_module(session_of("jsc-tiny-search.toml", **SEARCH | {"search__engine__workers": 2}), tmp_path / "two")
    times = ("latency",)

    def plain(trials: Any) -> Any:
        return {t.id: {k: v for k, v in t.metrics.items() if k not in times} for t in trials}

    assert plain(one.trials) == plain(two.trials)


def test_lists_match_by_type_name_and_regex_with_a_default_for_the_rest() -> None:
    layers = {"a.0": "Linear", "a.1": "BatchNorm1d", "b": "Linear"}
    lists: dict[str, Any] = {"linear": {"weight_width": (4, 8)}, "default": {"name": ("NA",)}}
    by_type = ListSpace.of_lists(SpaceSettings(lists=lists), layers, {"a.0": 10, "b": 2})
    assert [choice.name for choice in by_type.choices] == ["a.0:weight_width", "b:weight_width"]
    assert by_type.configs({"b:weight_width": "4"}) == {"a.0": {}, "a.1": {"name": "NA"}, "b": {"weight_width": 4}}
    by_name = ListSpace.of_lists(SpaceSettings(by="name", lists={"a_0": {"weight_width": (4, 8)}}), layers, {})
    assert [choice.name for choice in by_name.choices] == ["a.0:weight_width"]
    by_regex = ListSpace.of_lists(SpaceSettings(by="regex", lists={"^a": {"bias_width": (4, 8)}}), layers, {})
    assert [choice.name for choice in by_regex.choices] == ["a.0:bias_width", "a.1:bias_width"]


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        if self.layer(x).sum() > 0:
            return x
        return -x


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.name": "jsc-tinny"}, "no model named 'jsc-tinny'; did you mean 'jsc-tiny'?"),
        ({"data.path": "gone.h5"}, "gone.h5: cannot be read: No such file or directory"),
        ({"data.name": "jest"}, "no data named 'jest'; did you mean 'jets'?"),
        ({"denoiser.name": "digits-dit"}, "the run file has [denoiser] too; leave one of the two out"),
        ({"search.metrics.accurracy": {"direction": "maximize"}}, "no metric named 'accurracy' for a module; did you"),
        ({"search.space.lists.linaer": {"weight_width": [4, 8]}}, "no layer has the type 'linaer'; did you mean"),
        ({"search.space.lists.linear.weight_width": [4, 99]}, "width 99 of 'integer' is outside 1 to 32"),
        ({"search.space.lists.linear.weight_width": [4, 4]}, "expected one or more values, all different"),
        ({"search.strategy": "ilp-error"}, "'ilp-error' searches recipes of denoisers; for lists: random, optuna"),
        ({"search.constraints": ["avg_bits <= 4"]}, "constraints are on sums over a recipe's layers"),
    ],
)
def test_bad_input_is_one_line_with_file_and_key(tmp_path: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        session = ModuleSession.of(Session(RunFile.load("jsc-tiny-search.toml", overrides)))
        search_module(session, tmp_path)
    assert str(error.value).startswith("jsc-tiny-search.toml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_module_that_does_not_trace_names_the_line(tmp_path: Path) -> None:
    run = written(tmp_path, f'[model]\nimport = "{__name__}:Deciding"\n[model.inputs]\nx = [2, 16]\n')
    with pytest.raises(ConfigError) as error:
        transform_module(session_of(run), None)
    assert str(error.value).startswith("run.toml: model: trace Deciding")
    assert "data-dependent control flow" in str(error.value)
    assert f"{__file__}, line " in str(error.value)
    assert "if self.layer(x).sum() > 0:" in str(error.value)


def test_a_module_without_data_says_what_is_missing(tmp_path: Path) -> None:
    run = written(
        tmp_path, '[model]\nimport = "torch.nn:Linear"\n[model.arguments]\nin_features = 4\nout_features = 2\n'
    )
    with pytest.raises(ConfigError, match="without data, say the shapes of the forward's arguments"):
        transform_module(session_of(run), None)
    outcome = transform_module(session_of(run, model__inputs={"input": [3, 4]}), None)
    assert outcome.before is None
    with pytest.raises(ConfigError, match="q2 train needs data; name them in"):
        train_module(session_of(run, model__inputs={"input": [3, 4]}), tmp_path / "out")
