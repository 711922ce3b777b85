"""The walk-throughs of MASE step by step: their code with the import changed, on q2's trained networks."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from q2.compat.mase import (
    InputGenerator,
    MaseDataModule,
    MaseGraph,
    add_common_metadata_analysis_pass,
    add_software_metadata_analysis_pass,
    calculate_avg_bits_mg_analysis_pass,
    count_bitops,
    flop_bitwise_pass,
    get_model,
    get_model_info,
    imported,
    init_metadata_analysis_pass,
    load_model,
    profile_statistics_analysis_pass,
    quantize_transform_pass,
    redefine_linear_transform_pass,
    report_graph_analysis_pass,
    report_node_meta_param_analysis_pass,
    summarize_quantization_analysis_pass,
)
from q2.config import RunFile
from q2.errors import CheckpointError, ConfigError, Q2Error
from q2.models.imported import MODELS

QUANTIZE: dict[str, Any] = {
    "by": "type",
    "default": {"config": {"name": None}},
    "linear": {
        "config": {
            "name": "integer",
            "data_in_width": 8, "data_in_frac_width": 4,
            "weight_width": 8, "weight_frac_width": 4,
            "bias_width": 8, "bias_frac_width": 4,
        }
    },
}  # fmt: skip


def data_of(batch_size: int = 8) -> MaseDataModule:
    data_module = MaseDataModule(name="jsc", batch_size=batch_size, model_name="jsc-tiny", num_workers=0)
    data_module.prepare_data()
    data_module.setup()
    return data_module


def graph_of(name: str, data_module: MaseDataModule) -> tuple[MaseGraph, nn.Module]:
    model = get_model(name, task="cls", dataset_info=data_module.dataset_info, pretrained=True)
    generator = InputGenerator(
        data_module=data_module, model_info=get_model_info(name), task="cls", which_dataloader="train"
    )
    dummy_in = next(iter(generator))
    model(**dummy_in)
    mg = MaseGraph(model=model)
    mg, _ = init_metadata_analysis_pass(mg, None)
    mg, _ = add_common_metadata_analysis_pass(mg, {"dummy_in": dummy_in})
    mg, _ = add_software_metadata_analysis_pass(mg, None)
    return mg, model


def test_lab_2_question_1_the_graph_report_has_the_documents_three_parts(capsys: pytest.CaptureFixture[str]) -> None:
    mg, _ = graph_of("jsc-tiny", data_of())
    mg, info = report_graph_analysis_pass(mg)
    text = capsys.readouterr().out
    assert text.startswith(
        """graph():
    %x : [num_users=1] = placeholder[target=x]
    %seq_blocks_0 : [num_users=1] = call_module[target=seq_blocks.0](args = (%x,), kwargs = {})
    %seq_blocks_1 : [num_users=1] = call_module[target=seq_blocks.1](args = (%seq_blocks_0,), kwargs = {})
    %seq_blocks_2 : [num_users=1] = call_module[target=seq_blocks.2](args = (%seq_blocks_1,), kwargs = {})
    %seq_blocks_3 : [num_users=1] = call_module[target=seq_blocks.3](args = (%seq_blocks_2,), kwargs = {})
    return seq_blocks_3
Network overview:
{'placeholder': 1, 'get_attr': 0, 'call_function': 0, 'call_method': 0, 'call_module': 4, 'output': 1}
Layer types:
[BatchNorm1d(16, """
    )
    assert "ReLU(inplace=True), Linear(in_features=16, out_features=5, bias=True), ReLU(inplace=True)]" in text
    assert info["network_overview"]["call_module"] == 4


def test_lab_2_question_4_the_profile_and_the_table_of_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    data_module = data_of()
    mg, _ = graph_of("jsc-tiny", data_module)
    input_generator = InputGenerator(data_module=data_module, which_dataloader="train")
    pass_args = {
        "by": "type",
        "target_weight_nodes": ["linear"],
        "target_activation_nodes": ["relu"],
        "weight_statistics": {"variance_precise": {"device": "cpu", "dims": "all"}},
        "activation_statistics": {"range_quantile": {"device": "cpu", "dims": "all", "quantile": 0.97}},
        "input_generator": input_generator,
        "num_samples": 32,
    }
    mg, _ = profile_statistics_analysis_pass(mg, pass_args)
    assert "input_generator" in pass_args  # the caller's table stays what it is
    mg, _ = report_node_meta_param_analysis_pass(mg, {"which": ("software",)})
    lines = capsys.readouterr().out.splitlines()
    heads = [cell.strip() for cell in lines[1].strip("|").split("|")]
    assert heads == ["Node name", "Fx Node op", "Mase type", "Mase op", "Software Param"]
    text = "\n".join(lines)
    for name, kind, op in (
        ("seq_blocks_0", "module", "batch_norm1d"),
        ("seq_blocks_1", "module_related_func", "relu"),
        ("seq_blocks_2", "module_related_func", "linear"),
    ):
        assert any(name in line and f"| {kind} " in line and f"| {op} " in line for line in lines)
    assert "'running_var': {'stat': {}}" in text
    nodes = [node for node in mg.fx_graph.nodes if node.op == "call_module"]
    stats = {node.name: node.meta["mase"].parameters["software"]["args"] for node in nodes}
    weight = mg.modules["seq_blocks.2"].weight
    assert isinstance(weight, torch.Tensor)
    found = stats["seq_blocks_2"]["weight"]["stat"]["variance_precise"]
    assert found["count"] == 80
    assert found["variance"] == pytest.approx(float(weight.detach().double().var(correction=0)))
    assert stats["seq_blocks_2"]["bias"]["stat"]["variance_precise"]["count"] == 5
    assert stats["seq_blocks_1"]["data_in_0"]["stat"]["range_quantile"]["count"] == 32 * 16
    assert stats["seq_blocks_3"]["data_in_0"]["stat"]["range_quantile"]["count"] == 32 * 5
    assert set(stats["seq_blocks_1"]["data_in_0"]["stat"]["range_quantile"]) == {"count", "max", "min", "range"}


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "jsc-tiny",
            {"BatchNorm1d": (1, 0, 1), "Linear": (1, 1, 0), "ReLU": (2, 0, 2), "output": (1, 0, 1), "x": (1, 0, 1)},
        ),
        (
            "jsc-new",
            {"BatchNorm1d": (4, 0, 4), "Linear": (3, 3, 0), "ReLU": (4, 0, 4), "output": (1, 0, 1), "x": (1, 0, 1)},
        ),
    ],
)
def test_lab_2_questions_3_and_5_the_change_table(
    name: str, rows: dict[str, tuple[int, int, int]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data_module = data_of(64)
    mg, model = graph_of(name, data_module)
    ori_mg = MaseGraph(model=model)
    mg, _ = quantize_transform_pass(mg, QUANTIZE)
    mg, info = summarize_quantization_analysis_pass(ori_mg, mg, save_dir=tmp_path)
    found = {row["Original type"]: (row["Total"], row["Changed"], row["Unchanged"]) for row in info["table"]}
    assert found == rows
    assert "| Original type   | OP           |   Total |   Changed |   Unchanged |" in capsys.readouterr().out
    assert (tmp_path / "summary.txt").exists()


def test_lab_2_question_6_weights_are_multiples_of_a_sixteenth_and_the_originals_stay() -> None:
    mg, model = graph_of("jsc-new", data_of())
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    ori_mg = MaseGraph(model=model)
    mg, _ = quantize_transform_pass(mg, QUANTIZE)
    for node in mg.fx_graph.nodes:
        if node.meta["mase"].parameters["common"]["mase_op"] == "linear":
            module, original = node.meta["mase"].module, ori_mg.modules[node.target]
            assert bool((module.weight * 16 % 1 == 0).all())
            assert bool((module.bias * 16 % 1 == 0).all())
            assert isinstance(original, nn.Linear)
            expected = (original.weight * 16).round().clamp(-128, 127) / 16
            assert torch.equal(module.weight, expected)
            assert not torch.equal(module.weight, original.weight)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())


def test_lab_2_the_pass_of_the_optional_question_counts_linear_layers_too() -> None:
    mg, _ = graph_of("jsc-tiny", data_of())
    mg, info = flop_bitwise_pass(mg, {"dummy_in": torch.randn(8, 16)})
    assert info == {"FLOP": 8 * 80, "Bit-op": 8 * 80 * 32 * 32, "batch": 8}


def test_lab_3_the_sixteen_configurations_with_accuracy_bitops_weight_bits_and_latency() -> None:
    data_module = data_of()
    mg, model = graph_of("jsc-tiny", data_module)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    pairs = [(16, 8), (8, 6), (8, 4), (4, 2)]
    search_spaces = []
    for data_in, weight in itertools.product(pairs, pairs):
        config = copy.deepcopy(QUANTIZE)
        config["linear"]["config"] |= {"data_in_width": data_in[0], "data_in_frac_width": data_in[1]}
        config["linear"]["config"] |= {"weight_width": weight[0], "weight_frac_width": weight[1]}
        search_spaces.append(config)
    xs = torch.cat([x for x, _ in itertools.islice(data_module.test_dataloader(), 100)])
    ys = torch.cat([y for _, y in itertools.islice(data_module.test_dataloader(), 100)])
    accuracies = []
    for config in search_spaces:
        mg, _ = quantize_transform_pass(mg, config)
        mg, total_bit = count_bitops(mg)
        mg, size = calculate_avg_bits_mg_analysis_pass(mg, {})
        preds = mg.model(xs)
        accuracies.append(float((preds.argmax(1) == ys).float().mean()))
        width = config["linear"]["config"]
        assert size["w_overall_bit"] == 80 * width["weight_width"]  # not width and fraction together
        assert size["w_avg_bit"] == width["weight_width"]
        assert total_bit["total_bits"] == 8 * 80 * width["weight_width"] * width["data_in_width"]
        fresh, _ = quantize_transform_pass(MaseGraph(model=model), config)
        assert torch.equal(preds, fresh.model(xs))  # no configuration reaches the next
    assert max(accuracies) > 0.6
    assert min(accuracies) < max(accuracies)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())


def test_lab_4_channel_multipliers_keep_classes_biases_and_arguments() -> None:
    mg, model = graph_of("jsc-lab4", data_of())
    pass_config = {
        "by": "name",
        "default": {"config": {"name": None}},
        "seq_blocks_2": {"config": {"name": "output_only", "channel_multiplier": 2}},
        "seq_blocks_4": {"config": {"name": "both", "channel_multiplier": 2}},
    }
    given = copy.deepcopy(pass_config)
    mg, _ = redefine_linear_transform_pass(mg, pass_args={"config": pass_config})
    shapes = [tuple(m.weight.shape) for m in mg.modules.values() if isinstance(m, nn.Linear)]
    assert shapes == [(32, 16), (32, 32), (5, 32)]  # the document's larger network
    assert all(m.bias is not None for m in mg.modules.values() if isinstance(m, nn.Linear))
    assert mg.model(torch.randn(3, 16)).shape == (3, 5)
    assert pass_config == given
    assert [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)] == [(16, 16), (16, 16), (5, 16)]
    with pytest.raises(Q2Error, match="the model's outputs would have other channels"):
        redefine_linear_transform_pass(
            mg, {"config": {"default": {"config": {}}, "seq_blocks_6": {"config": {"channel_multiplier": 2}}}}
        )


def test_checkpoints_of_lightning_are_loaded_and_mases_pickles_are_not(tmp_path: Path) -> None:
    model, trained = get_model("jsc-tiny"), get_model("jsc-tiny", pretrained=True)
    torch.save({"state_dict": {f"model.{k}": v for k, v in trained.state_dict().items()}}, tmp_path / "best.ckpt")
    load_model(str(tmp_path / "best.ckpt"), "pl", model)
    assert all(torch.equal(model.state_dict()[key], each) for key, each in trained.state_dict().items())
    with pytest.raises(ConfigError, match="'mz': a pickled graph"):
        load_model("best.mz", "mz", model)
    torch.save(trained, tmp_path / "whole.ckpt")
    with pytest.raises(CheckpointError, match="no state dict of tensors alone"):
        load_model(str(tmp_path / "whole.ckpt"), "pl", model)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: get_model("jsc-tinny"), "no model named 'jsc-tinny'; did you mean 'jsc-tiny'?"),
        (lambda: get_model("jsc-tiny", task="lm"), "task 'lm': q2's networks classify; expected 'cls'"),
        (lambda: MaseDataModule("imagenet"), "no data set named 'imagenet'"),
        (lambda: MaseGraph(nn.Linear(2, 2)), "MaseGraph of Linear: say dummy_in, arguments of its forward"),
    ],
)
def test_what_mase_has_and_q2_has_not_is_one_line(call: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        call()
    assert message in str(error.value)


LAB_2 = """
model = "jsc-new"
dataset = "jsc"
task = "cls"

max_epochs = 5
batch_size = 512
learning_rate = 1e-2
accelerator = "cpu"
project = "jsc-new"
seed = 42
log_every_n_steps = 5
load_type = "pl"

[passes.quantize]
by = "type"
[passes.quantize.default.config]
name = "NA"
[passes.quantize.linear.config]
name = "integer"
"data_in_width" = 8
"data_in_frac_width" = 4
"weight_width" = 8
"weight_frac_width" = 4
"bias_width" = 8
"bias_frac_width" = 4

[search.search_space]
name = "graph/quantize/mixed_precision_ptq"

[search.search_space.setup]
by = "name"

[search.search_space.seed.default.config]
name = ["NA"]

[search.search_space.seed.linear.config]
name = ["integer"]
data_in_width = [4, 8]
data_in_frac_width = ["NA"]
weight_width = [2, 4, 8]
weight_frac_width = ["NA"]
bias_width = [2, 4, 8]
bias_frac_width = ["NA"]

[search.search_space.seed.seq_blocks_2.config]
name = ["integer"]
data_in_width = [4, 8]
data_in_frac_width = ["NA"]
weight_width = [2, 4, 8]
weight_frac_width = ["NA"]
bias_width = [2, 4, 8]
bias_frac_width = ["NA"]

[search.strategy]
name = "optuna"
eval_mode = true

[search.strategy.sw_runner.basic_evaluation]
data_loader = "val_dataloader"
num_samples = 512

[search.strategy.hw_runner.average_bitwidth]
compare_to = 32

[search.strategy.setup]
n_jobs = 1
n_trials = 20
timeout = 20000
sampler = "tpe"
sum_scaled_metrics = false

[search.strategy.metrics]
accuracy.scale = 1.0
accuracy.direction = "maximize"
average_bitwidth.scale = 0.2
average_bitwidth.direction = "minimize"
"""


def test_the_documents_run_file_becomes_q2s_with_every_key_settled(tmp_path: Path) -> None:
    (tmp_path / "jsc_new_by_type.toml").write_text(LAB_2)
    found = imported(tmp_path / "jsc_new_by_type.toml")
    (tmp_path / "run.toml").write_text(found.text)
    settings = RunFile.load(str(tmp_path / "run.toml")).settings
    assert (settings.model.name, settings.data.name, settings.data.batch) == ("jsc-new", "jets", 512)
    assert (settings.train.epochs, settings.train.learning_rate, settings.seed) == (5, 0.01, 42)
    assert settings.passes["quantize"]["default"] == {"config": {"name": "none"}}
    assert settings.passes["quantize"]["linear"]["config"]["weight_frac_width"] == 4
    search = settings.search
    assert (search.strategy, search.trials, search.engine.workers) == ("optuna", 20, 1)
    assert search.strategies["optuna"] == {"sampler": "tpe", "combine": "pareto"}
    assert search.space.by == "name"
    assert search.space.lists["seq_blocks_2"]["weight_width"] == (2, 4, 8)
    assert "linear" not in search.space.lists
    assert search.metrics["average_bitwidth"].scale == 5.0
    assert (search.runner.split, search.runner.samples) == ("validation", 512)
    said = dict(found.rows)
    assert said["project"] == "no counterpart: --out names the folder of a run"
    assert said["search.search_space.seed.linear"].startswith("no counterpart: by = 'name' looks at names")
    assert said["search.strategy.setup.timeout"].startswith("no counterpart: ")
    assert said["max_epochs"] == "train.epochs"
    assert not [key for key, what in found.rows if what == "no counterpart: q2 knows no such key"]


def test_a_key_that_nobody_knows_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('model = "jsc-lab4"\nfrobnicate = 3\n[passes.prune]\nscope = "local"\n')
    found = imported(tmp_path / "run.toml")
    assert found.table["model"]["name"] == "jsc-three-linear"
    assert dict(found.rows)["frobnicate"] == "no counterpart: q2 knows no such key"
    assert dict(found.rows)["passes.prune"].startswith("no counterpart: ")
    with pytest.raises(ConfigError, match="not valid TOML"):
        (tmp_path / "run.toml").write_text("model = ")
        imported(tmp_path / "run.toml")


def test_every_network_that_ships_has_its_info() -> None:
    assert [get_model_info(name).is_vision_model for name in MODELS] == [False, False, False, True]
