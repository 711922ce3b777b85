"""The table of counterparts names commands, options and settings that exist, and leaves none of the originals out."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from q2.cli import app
from tools.site.things import setting_names

TEXT = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text(encoding="utf-8")
SPANS = [*re.findall(r"`(q2 [^`\n]+)`", TEXT), *re.findall(r"(?m)^(q2 [^#\n]+)", TEXT)]
NAMED = [span for span in re.findall(r"`([^`\n]+)`", TEXT) if re.fullmatch(r"(search|denoiser|bank)\.[\w.]+", span)]

MAIN = """
pixart_alpha_infer.py pixart_sigma_infer.py hunyuan_infer.py sdxl_infer.py sdv15_infer.py dit_infer.py
--outdir --q_config --quant_act --act_bit --prompt --n_imgs --res --seed --cls_id
pixart_alpha_multiquantizer.py pixart_sigma_multiquantizer.py hunyuan_multiquantizer.py sdxl_multiquantizer.py
sdv15_multiquantizer.py dit_multiquantizer.py --prefix
pixart_alpha_eval_random.py pixart_sigma_eval_random.py hunyuan_eval_random.py sdxl_eval_random.py
sdv15_eval_random.py dit_eval_random.py --num_archs CUDA_VISIBLE_DEVICES constants.py v1-5-pruned-emaonly.ckpt
quantized_size avg_bits quantized_error FID-GT-1k bops config quant_cache.pkl quant_configs multiquantizers dag_plots
_execution_device
"""
BRANCH = """
train_predictor_fold_srcc.py train_predictor_fold_ndcg.py train_predictor_fold_hybrid.py -families -tag -target
label_eq.py label_units_sdm_fold.py convert_sdm_unit_to_scheme _nodes_labeled.pkl _sgs_labeled.pkl graph_blk_box.py
graph_op_box.py node_op_box.py graph_op_bar.py node_op_bar.py -unit -title torchsort pytorchltr
"""
AUTOBUILD = """
train_predictor.py -format -epochs_predictor -plots -corr_lambda -acc label_units.py -chkpt eval_topk_ofa.py
-unit_corpus -k -K -m save_topk_ofa.py run_ofa_mbv3_unit_pareto_search.py run_ofa_pn_unit_pareto_search.py -batch_size
-model_name -resolution -metric -imagenet_data_dir run_ofa_mbv3_rm_pareto_search.py ofa_mbv3_custom_cache.pkl
ofa_pn_custom_cache.pkl ofa_mbv3_pan_seg_custom_cache.pkl ofa_pn_pan_seg_custom_cache.pkl ofa_mbv3_pn_onnx_ir_cache.pkl
l1_models rm_search DIR_TO_APPEND ofa_manager.py PYTHONPATH saved_models _config.pkl
"""


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that words call, and its arguments."""
    found: Any = get_command(app)
    while words and words[0] in getattr(found, "commands", {}):
        found, words = found.commands[words[0]], words[1:]
    return found, words


@pytest.mark.parametrize("span", dict.fromkeys(SPANS))
def test_every_command_and_option_that_it_names_exists(span: str) -> None:
    command, rest = command_of(shlex.split(span)[1:])
    assert command.name is not None, span
    assert not getattr(command, "commands", {}) or command.name == "search", span
    known = {option for parameter in command.params for option in parameter.opts}
    for word in rest:
        assert not word.startswith("-") or word in known or word.startswith("-1*"), f"{span}: {word}"
    for key in (rest[i + 1].partition("=")[0] for i, word in enumerate(rest) if word == "--set"):
        is_setting(key)


def is_setting(key: str) -> None:
    """Fail unless it is a setting, a section, or an option of a strategy."""
    known = setting_names()
    inside = any(name == key or name.startswith(f"{key}.") for name in known)
    assert inside or key.startswith("search.strategies."), key


@pytest.mark.parametrize("key", dict.fromkeys(NAMED))
def test_every_setting_that_it_names_exists(key: str) -> None:
    is_setting(key)


@pytest.mark.parametrize("document", [MAIN, BRANCH, AUTOBUILD], ids=["main", "branch", "autobuild"])
def test_no_command_or_flag_of_the_originals_is_left_out(document: str) -> None:
    missing = [name for name in document.split() if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", TEXT)]
    assert [name for name in missing if not (name.startswith("_") and name in TEXT)] == []
