"""Pictures of flow graphs: every unit is in them, equal blocks stand once, bad blocks are one line."""

import html
import re

import pytest
import torch
from torch import nn

from q2.errors import ConfigError
from q2.graph import trace
from q2.graph.flow.draw import draw
from tests.graph.full import full_size
from tests.graph.tiny import FAMILIES

MAX_BOXES = 80


def boxes(svg: bytes) -> list[str]:
    nodes = re.findall(r'<g id="node\d+" class="node">\s*<title>(.*?)</title>', svg.decode())
    return [html.unescape(title) for title in nodes]


def texts(svg: bytes) -> list[str]:
    found = re.findall(r"<text[^>]*>(.*?)</text>", svg.decode())
    return [html.unescape(text).replace("\xa0", " ") for text in found]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_whole_denoiser_fits_a_screen(name: str) -> None:
    graph = full_size(name)
    svg = draw(graph, graph.units(), title=name)
    assert name in texts(svg)
    assert len(boxes(svg)) <= MAX_BOXES


def test_equal_blocks_stand_once_and_say_how_many_they_are() -> None:
    graph = full_size("dit")
    svg = draw(graph, graph.units())
    assert "transformer_blocks 1–27  ×27" in texts(svg)
    assert "transformer_blocks.1.ff" in boxes(svg)
    assert "transformer_blocks.2.ff" not in boxes(svg)


def test_a_block_is_drawn_by_layers_with_its_neighbours() -> None:
    graph = full_size("hunyuan")
    found = boxes(draw(graph, graph.units(), block="21"))
    assert {"blocks.21.skip_linear", "blocks.21.skip_linear#1", "blocks.21.attn2.to_k"} <= set(found)
    assert "text_embedder.linear_2" in found
    assert not any(title.startswith("blocks.3.") for title in found)


def test_bits_are_written_and_coloured() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    graph = trace(model, {"input": torch.zeros(1, 4)})
    svg = draw(graph, graph.units(), bits={"0": 3.25})
    assert texts(svg).count("3.25 bits") == 1
    assert draw(graph, graph.units(), kind="png").startswith(b"\x89PNG")


def test_blocks_that_differ_in_their_bits_or_scores_are_not_drawn_as_one() -> None:
    graph = full_size("dit")
    bits = dict.fromkeys(graph.weight_layers, 4.0)
    bits["transformer_blocks.9.ff.net.2"] = 3.0
    found = texts(draw(graph, graph.units(), bits=bits))
    assert {"transformer_blocks 1–8  ×8", "transformer_blocks 9", "transformer_blocks 10–27  ×18"} <= set(found)
    assert found.count("3.50 bits") == 1
    assert "transformer_blocks 1–27  ×27" in texts(draw(graph, graph.units(), bits=dict.fromkeys(bits, 4.0)))
    scores = {name: 1.0 for name, data in graph.flow().nodes(data=True) if data["kind"] == "weight"}
    scores["transformer_blocks.9.ff.net.2"] = 2.5
    found = texts(draw(graph, graph.units(), scores=scores))
    assert found.count("2.5") == 1
    assert "transformer_blocks 9" in found


def test_a_legend_says_what_colours_and_lines_mean() -> None:
    graph = full_size("dit")
    plain = texts(draw(graph, graph.units(), title="a & b"))
    assert "a & b" in plain
    assert any(text.startswith("ellipse: flows meet · dashed") for text in plain)
    coloured = texts(draw(graph, graph.units(), bits=dict.fromkeys(graph.weight_layers, 4.0)))
    assert {"≤ 3", "≤ 4.5", "more bits a weight"} <= set(coloured)


def test_a_block_that_is_not_there_is_one_line_with_the_nearest() -> None:
    graph = full_size("sdxl")
    with pytest.raises(ConfigError, match=r"no block 'up_block.1'; did you mean 'up_blocks.1'\?"):
        draw(graph, graph.units(), block="up_block.1")
    with pytest.raises(ConfigError, match=r"no block '7' \(there are: down_blocks.0 to up_blocks.2\)"):
        draw(graph, graph.units(), block="7")
