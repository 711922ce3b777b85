"""Rows of diffusers' models: as many as multiply-accumulates say, of the length of the weight; experts have theirs."""

from pathlib import Path

import pytest
import torch

from q2.graph import Graph, trace
from q2.graph.sharing import readers
from q2.quant.calibration.collect import collect, groups_of
from q2.quant.calibration.rows import RowPlan, RowStore
from tests.graph import zoo


def rows_of(name: str, folder: Path) -> tuple[Graph, RowStore]:
    """Collect the rows of one forward pass of a tiny model."""
    model = zoo.build(name)
    example = zoo.inputs(name, model, 2)
    graph = trace(model, example)
    groups = groups_of({path: layer.module for path, layer in graph.weight_layers.items()}, readers(graph))

    def draw(images: range) -> None:
        with graph.installed():
            model(**example)

    collect(folder, RowPlan(name, "", "float32", 1, 1, 64, 1, 1, "", "", groups), model, draw)
    return graph, RowStore.open(folder)


@pytest.mark.parametrize(
    "name",
    ["UNet2DConditionModel", "StableCascadeUNet", "CogVideoXTransformer3DModel", "UNetSpatioTemporalConditionModel"],
)
def test_every_layer_has_the_rows_that_its_macs_say(name: str, tmp_path: Path) -> None:
    graph, store = rows_of(name, tmp_path)
    assert len(set(store.plan.groups)) < len(store.layers)
    for path, layer in graph.weight_layers.items():
        rows = store.rows(path)
        assert rows is not None
        assert rows.seen == layer.macs // layer.weights
        length = layer.groups * layer.weights // layer.out_channels
        assert rows.values.shape == (min(rows.seen, 64), length)


def test_experts_have_the_rows_that_were_routed_to_them(tmp_path: Path) -> None:
    graph, store = rows_of("HiDreamImageTransformer2DModel", tmp_path)
    experts = [path for path in graph.weight_layers if path.startswith("double") and ".experts." in path]
    first = [path for path in experts if path.endswith("w1")]
    seen = [rows.seen if (rows := store.rows(path)) else 0 for path in first]
    blocks = len({path.partition(".experts.")[0] for path in first})
    assert sum(seen) == sum(graph.weight_layers[path].macs // graph.weight_layers[path].weights for path in first)
    assert len(first) // blocks > 1
    assert len(set(seen)) > 1
    kept = [rows.values for path in first if (rows := store.rows(path)) is not None]
    assert all(values.isfinite().all() for values in kept)
    assert len(torch.cat(kept)) <= 64 * len(first)
