"""Spaces: choices from the flow graph, copies and split layers, options by trial, one line for what does not fit."""

from collections.abc import Mapping

import numpy as np
import pytest

from q2.errors import PredictorError
from q2.quant.options import Option
from q2.quant.recipe import Recipe
from q2.search.predictor.space import NodeSpace
from tests.search.predictor.spaces import OPTIONS, graph, space, trials


def test_choices_are_the_weight_nodes_and_copies_follow_the_first() -> None:
    flow, free, tied = graph("dit").flow(), space("dit"), space("dit", tied=True)
    weights = [name for name, data in flow.nodes(data=True) if data["kind"] == "weight"]
    copies = [name for name in weights if "timestep_embedder.linear_1" in name]
    assert free.choices == tuple(weights)
    assert len(tied.choices) == len(weights) - 2 * (len(copies) - 1)
    places = {int(tied.choice[tied.topology.nodes.index(name)]) for name in copies}
    assert places == {tied.choices.index(copies[0])}
    assert len(tied.topology.units) == len(free.topology.units) - len(copies) + 1


def test_rows_hold_the_features_of_node_and_option() -> None:
    dit = space("dit")
    chosen, _ = trials(dit, 3)
    rows = dit.rows(chosen)
    assert rows.shape == (3, len(dit.topology.nodes))
    columns = list(dit.fields)
    for trial in range(3):
        for node in range(len(dit.topology.nodes)):
            found = {
                name: dit.fields[name][code] for name, code in zip(columns, dit.codes[rows[trial, node]], strict=True)
            }
            data = graph("dit").flow().nodes[dit.topology.nodes[node]]
            assert (found["role"], found["block"], found["stage"]) == (data["role"], str(data["block"]), data["stage"])
            own = dit.choice[node]
            option = Option.parse(OPTIONS[chosen[trial, own]]) if own >= 0 else Option("combine", 1)
            assert found["method"] == option.quantizer
            if own >= 0:
                assert found["bits"] == str(option.bits)
                assert dit.errors is not None
                expected = [1600 * 100 / dit.bits[own, chosen[trial, own]], 100 * dit.errors[own, chosen[trial, own]]]
                assert dit.values[rows[trial, node]].tolist() == expected


def test_a_trial_may_be_a_recipe_and_name_a_split_layer_once() -> None:
    sdxl = space("sdxl")
    paths = {name.partition("#")[0]: OPTIONS[i % 4] for i, name in enumerate(sdxl.choices)}
    assert len(paths) < len(sdxl.choices)
    recipe = Recipe.of(paths, "sdxl", "", 4.0)
    chosen = sdxl.encode([recipe.layers, {**paths, **dict.fromkeys(sdxl.choices, "uaq-3")}])
    by_name = dict(zip(sdxl.choices, chosen[0].tolist(), strict=True))
    assert all(by_name[name] == OPTIONS.index(paths[name.partition("#")[0]]) for name in sdxl.choices)
    assert set(chosen[1].tolist()) == {3}


def test_avg_bits_count_copies_once() -> None:
    tied = space("dit", tied=True)
    assert tied.avg_bits(np.zeros((2, len(tied.choices)), dtype=np.int64)).tolist() == [4.16, 4.16]


def test_what_does_not_fit_is_one_line() -> None:
    dit = space("dit", tied=True)
    whole: Mapping[str, object] = dict.fromkeys(dit.choices, "uaq-4")
    with pytest.raises(PredictorError, match=r"^trial 1: layer 'proj_out_2' is missing$"):
        dit.encode([whole, {name: option for name, option in whole.items() if name != "proj_out_2"}])
    with pytest.raises(
        PredictorError, match="^trial 0: no layer 'proj_out_3' in this denoiser; did you mean 'proj_out_"
    ):
        dit.encode([{**whole, "proj_out_3": "uaq-4"}])
    with pytest.raises(PredictorError, match="^trial 0: 'proj_out_2' has option 'uaq-5', expected kmeans-c-4, uaq-4"):
        dit.encode([{**whole, "proj_out_2": "uaq-5"}])
    copy = next(n for n in dit.topology.nodes if n.endswith("1.norm1.emb.timestep_embedder.linear_1"))
    with pytest.raises(PredictorError, match="is a copy, but has another option than its like$"):
        dit.encode([{**whole, copy: "uaq-3"}])
    with pytest.raises(PredictorError, match=rf"^trials: expected \(trials, {len(dit.choices)}\) options"):
        dit.graphs(np.zeros((2, 3), dtype=np.int64), {})
    with pytest.raises(PredictorError, match="^trials: an option is outside 0 to 3$"):
        dit.graphs(np.full((1, len(dit.choices)), 4), {})


def test_sizes_must_be_there_for_every_layer_and_option() -> None:
    flow, units = graph("dit").flow(), graph("dit").units()
    nodes = space("dit").choices
    sizes = {node: dict.fromkeys(OPTIONS, 10.0) for node in nodes}
    weights = dict.fromkeys(nodes, 1)
    with pytest.raises(PredictorError, match="^sizes: none for option 'kmeans-c-4' of layer 'proj_out_2'$"):
        NodeSpace.from_flow(flow, units, OPTIONS, sizes={**sizes, "proj_out_2": {}}, weights=weights)
    with pytest.raises(PredictorError, match="^sizes: every weight layer needs weights and a size above 0$"):
        NodeSpace.from_flow(flow, units, OPTIONS, sizes=sizes, weights={})
    with pytest.raises(PredictorError, match="^options: expected two or more different ones, found uaq-4$"):
        NodeSpace.from_flow(flow, units, ("uaq-4",), sizes=sizes, weights=weights)
