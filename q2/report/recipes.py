"""Recipes in a report: a line, and a map of bits by block and role."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from q2.quant.options import Option
from q2.quant.widths import FULL
from q2.report.parts import Chart

__all__ = ["bits_of", "block_and_role", "layer_map", "summary"]

_REPEATED = re.compile(r"^(.*s\.\d+)\.(.+)$")


def bits_of(option: str) -> int:
    """Return the width of an option; 16 where the weight stays as it is.

    >>> bits_of("kmeans-c-3"), bits_of("mxfp4"), bits_of("none")
    (3, 4, 16)
    """
    return Option.parse(option).bits or FULL


def summary(recipe: Mapping[str, str]) -> str:
    """Return how often each option is taken, the most frequent first.

    >>> summary({"a": "uaq-4", "b": "none", "c": "uaq-4"})
    'uaq-4 ×2, none ×1'
    """
    return ", ".join(f"{option} ×{count}" for option, count in Counter(recipe.values()).most_common())


def block_and_role(layer: str) -> tuple[str, str]:
    """Split a layer's name behind its innermost numbered block.

    >>> block_and_role("down_blocks.1.attentions.0.transformer_blocks.2.attn1.to_out.0")
    ('down_blocks.1.attentions.0.transformer_blocks.2', 'attn1.to_out.0')
    >>> block_and_role("proj_out")
    ('', 'proj_out')
    """
    found = _REPEATED.match(layer)
    return (found[1], found[2]) if found else ("", layer)


def layer_map(recipe: Mapping[str, str]) -> Chart:
    """Return the layers of a recipe as cells, blocks down and roles across, in the order of the recipe."""
    rows: list[dict[str, Any]] = []
    for layer, option in recipe.items():
        block, role = block_and_role(layer)
        rows.append({
            "layer": layer, "option": option, "bits": bits_of(option), "block": block or "–", "role": role,
        })  # fmt: skip
    blocks = list(dict.fromkeys(row["block"] for row in rows))
    roles = list(dict.fromkeys(row["role"] for row in rows))
    spec = {
        "data": {"values": rows},
        "mark": {"type": "rect", "stroke": "#8884", "tooltip": True},
        "width": {"step": 22},
        "height": {"step": 18},
        "encoding": {
            "y": {"field": "block", "type": "nominal", "sort": blocks, "title": None, "axis": {"labelLimit": 320}},
            "x": {
                "field": "role",
                "type": "nominal",
                "sort": roles,
                "title": None,
                "axis": {"labelAngle": -60, "labelLimit": 260},
            },
            "color": {
                "field": "bits",
                "type": "ordinal",
                "sort": sorted({row["bits"] for row in rows}),
                "scale": {"scheme": "viridis", "reverse": True},
                "title": "bits",
            },
            "tooltip": [{"field": name} for name in ("layer", "option")],
        },
    }
    return Chart(spec, f"bits of {len(rows)} layers: {summary(recipe)}")
