"""Draw a flow graph with graphviz: units as boxes, a frame per block, repeated blocks once."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx

from q2.errors import ConfigError, did_you_mean
from q2.graph.flow.collapse import Repeats, items
from q2.graph.flow.units import Unit
from q2.graph.graph import Graph

__all__ = ["check_block", "draw"]

_INK, _QUIET, _WEIGHT, _COMBINE, _FRAME = "#202020", "#9a9a9a", "#cfe2f3", "#ffffff", "#b0b0b0"
_SHADES = {3.0: "#f4b6a6", 3.5: "#f9d7a8", 4.5: "#d5e8b5", 6.0: "#b7dfc0", 9.0: "#b5d5ee", math.inf: "#e4e4e4"}
_SIGNS = {"add": "+", "mul": "×", "concat": "‖", "adaln": "norm·s+t", "mul_qk": "Q·Kᵀ", "mul_vsm": "S·V"}
_FAINT = "#c4ccd4"
_MAX_BOXES, _WIDE = 48, 6


@dataclass(frozen=True)
class Look:
    """What boxes show: the number of weights of every layer, bits a weight, scores of flow nodes."""

    weights: Mapping[str, int]
    bits: Mapping[str, float]
    scores: Mapping[str, float]

    def heat(self, score: float) -> str:
        """Return a colour from the lowest score's white to the highest's red, in graphviz's hue, saturation, value."""
        low, high = min(self.scores.values()), max(self.scores.values())
        return f"0.020 {0.75 * (score - low) / ((high - low) or 1.0):.3f} 1.000"


def draw(
    graph: Graph,
    units: Sequence[Unit],
    *,
    title: str = "",
    block: str = "",
    bits: Mapping[str, float] | None = None,
    scores: Mapping[str, float] | None = None,
    kind: str = "svg",
) -> bytes:
    """Return a picture of the flow graph as SVG or PNG (`kind`).

    The whole denoiser is drawn by units; with `block` (``3``, ``up_blocks.1``) the layers of one block and what they
    are connected to. Runs of blocks that are equal, also in their bits or scores, are drawn once; a dashed arrow leads
    from one of them to the next. `bits` a weight, by layer, give the colours, or `scores`, by flow node: a box has the
    highest of its own. A legend says what colours and lines mean. Raises ConfigError for a block that is not there.
    """
    flow = graph.flow()
    blocks = _blocks(flow, block) if block else []
    repeats = Repeats(flow, units, graph.model, blocks, _told(flow, bits or {}, scores or {}))
    inside = {name for name in flow if not block or any(name.startswith(f"{path}.") for path in blocks)}
    own = str if block else _boxes(flow, units, repeats)
    shown = inside | {n for name in inside for n in (*flow.predecessors(name), *flow.successors(name))}
    groups: dict[str, list[str]] = {}
    for name in sorted(shown, key=lambda node: int(flow.nodes[node]["order"])):
        groups.setdefault(repeats.canonical(own(name)), []).append(name)
    look = Look({name: layer.weights for name, layer in graph.weight_layers.items()}, bits or {}, scores or {})
    box_of = {name: box for box, names in groups.items() for name in names}
    canvas = _Canvas(legend(title, look))
    for box, names in groups.items():
        attributes = _box(flow, names, repeats.short(box), len({own(name) for name in names}), look)
        if inside.isdisjoint(names):
            canvas.box(box, attributes | {"style": "rounded,dashed", "color": _QUIET, "label": box}, [])
        else:
            stage = flow.nodes[names[0]]["stage"] if flow.nodes[names[0]]["block"] < 0 else ""
            canvas.box(box, attributes, [*([(stage, stage)] if stage else []), *_frames(repeats, box)])
    onward: dict[tuple[str, str], bool] = {}  # only from one item of a run to another
    for source, target in flow.subgraph(shown).edges:
        pair = box_of[source], box_of[target]
        onward[pair] = onward.get(pair, True) and repeats.crosses(source, target)
    canvas.arrows(onward)
    picture: bytes = canvas.graph.draw(format=kind, prog="dot")
    return picture


def _told(flow: nx.DiGraph[str], bits: Mapping[str, float], scores: Mapping[str, float]) -> dict[str, object]:
    """Return what a picture says of every weight node: its bits, or its score as it is written."""
    told: dict[str, object] = {}
    for name, data in flow.nodes(data=True):
        if data["kind"] == "weight":
            score = f"{scores[name]:.3g}" if name in scores else ""
            told[name] = bits.get(name, bits.get(data["layer"])), score
    return told


def check_block(flow: nx.DiGraph[str], block: str) -> None:
    """Raise ConfigError, with the nearest name, for a block that is not there; an empty one is the whole."""
    if block:
        _blocks(flow, block)


def _blocks(flow: nx.DiGraph[str], block: str) -> list[str]:
    """Return the paths that a block means: ``3`` is that of its index in every stage, ``up_blocks.1`` one of them."""
    places = [(data["stage"], data["block"]) for _, data in flow.nodes(data=True) if data["stage"]]
    known = list(dict.fromkeys(stage if index < 0 else f"{stage}.{index}" for stage, index in places))
    wanted = [path for path in known if block in (path, path.partition(".")[2])] or [
        stage for stage in dict.fromkeys(stage for stage, _ in places) if stage == block
    ]
    if not wanted:
        raise ConfigError(
            f"no block {block!r}{did_you_mean(block, known) or f' (there are: {known[0]} to {known[-1]})'}"
        )
    return wanted


def _boxes(flow: nx.DiGraph[str], units: Sequence[Unit], repeats: Repeats) -> Callable[[str], str]:
    """Return what box a flow node is in: its unit's, or, where those are too many, that of its ResBlock or transformer.

    A combine is in a unit's box where it is between the unit's layers; others stand alone.
    """
    owner = {layer: unit.name for unit in units for layer in unit.layers}
    for unit in units:
        mine = set(unit.layers)
        for name in unit.nodes:
            if name not in owner and (name == unit.last or mine.intersection(flow.predecessors(name))):
                mine.add(name)
                owner[name] = unit.name
    if len({repeats.canonical(name) for name in owner.values()}) > _MAX_BOXES:
        return lambda name: next((item for item in items(name) if item.count(".") > 1), owner.get(name, name))
    return lambda name: owner.get(name, name)


def _frames(repeats: Repeats, box: str) -> list[tuple[str, str]]:
    """Return name and title of the frames around a box: its block, and the runs in it that stand for several."""
    runs = [(item, repeats.runs[item]) for item in items(f"{box}.") if item in repeats.runs]
    return [(item, run.title) for item, run in runs if run.count > 1 or item.count(".") == 1]


def _box(flow: nx.DiGraph[str], names: list[str], title: str, copies: int, look: Look) -> dict[str, str]:
    """Return the graphviz attributes of a box that stands for the flow nodes `names`, `copies` times the same."""
    weights = [name for name in names if flow.nodes[name]["kind"] == "weight"]
    if not weights:
        ops = dict.fromkeys(_SIGNS.get(flow.nodes[name]["op"], flow.nodes[name]["op"]) for name in names)
        return {"label": " ".join(ops), "shape": "ellipse", "fillcolor": _COMBINE, "margin": "0.03", "height": "0.25"}
    held = dict.fromkeys(flow.nodes[name]["layer"] for name in weights)
    size = sum(look.weights[name] for name in held) / copies
    count = len(held) // copies
    lines = [title, f"{count} layers · {size / 1e6:.3g} M" if count > 1 else f"{size / 1e6:.3g} M"]
    known = [name for name in held if name in look.bits]
    bits = None
    if known:
        total = sum(look.weights[name] for name in known)
        bits = sum(look.bits[name] * look.weights[name] for name in known) / total
        lines.append(f"{bits:.2f} bits")
    scores = [look.scores[name] for name in weights if name in look.scores]
    if scores:
        lines.append(f"{max(scores):.3g}")
        return {"label": "\n".join(lines), "fillcolor": look.heat(max(scores))}
    return {"label": "\n".join(lines), "fillcolor": _shade(bits)}


def legend(title: str, look: Look) -> str:
    """Return a title, and below it what colours and lines mean, as graphviz's HTML-like label."""
    cells = [(_WEIGHT, "weight layers")]
    if look.scores:
        low, high = min(look.scores.values()), max(look.scores.values())
        cells = [(look.heat(low), f"score {low:.3g}"), (look.heat(high), f"{high:.3g}, the highest of a box's layers")]
    elif look.bits:
        cells = [(colour, f"≤ {limit:g}" if limit < math.inf else "more") for limit, colour in _SHADES.items()]
        cells[-1] = (cells[-1][0], "more bits a weight")
    boxes = "".join(
        f'<td bgcolor="{colour}" border="1" width="14"></td><td align="left">{html.escape(text)}</td>'
        for colour, text in cells
    )
    lines = "ellipse: flows meet · dashed: on to the next of ×n equal blocks · light: goes to many boxes"
    rows = [f'<tr><td colspan="{2 * len(cells)}"><font point-size="13">{html.escape(title)}</font></td></tr>'] * bool(
        title
    )
    rows += [f"<tr>{boxes}</tr>", f'<tr><td colspan="{2 * len(cells)}">{lines}</td></tr>']
    return f'<<font point-size="9"><table border="0" cellborder="0" cellspacing="3">{"".join(rows)}</table></font>>'


def _shade(bits: float | None) -> str:
    return _WEIGHT if bits is None else next(colour for limit, colour in _SHADES.items() if bits <= limit)


class _Canvas:
    """The graphviz graph: nested frames for the runs that a box lies in."""

    def __init__(self, label: str) -> None:
        import pygraphviz

        self.graph = pygraphviz.AGraph(directed=True, strict=True, rankdir="TB", nodesep="0.18", ranksep="0.28")
        self.graph.graph_attr.update(fontname="Helvetica", fontsize="13", label=label, labelloc="t", compound="true")
        self.graph.node_attr.update(
            shape="box", style="rounded,filled", fontname="Helvetica", fontsize="10", color=_INK, fontcolor=_INK,
            margin="0.08,0.04", height="0.3", penwidth="0.7",
        )  # fmt: skip
        self.graph.edge_attr.update(color=_INK, arrowsize="0.5", penwidth="0.7")
        self._frames: dict[str, Any] = {}

    def box(self, key: str, attributes: Mapping[str, str], frames: Iterable[tuple[str, str]]) -> None:
        """Add a box inside its frames, outermost first."""
        around = self.graph
        for depth, (name, title) in enumerate(frames):
            if name not in self._frames:
                self._frames[name] = around.add_subgraph(
                    name=f"cluster {name}", label=title, fontname="Helvetica", fontsize="11", color=_FRAME,
                    style="rounded,filled", fillcolor="#f7f7f7" if depth == 0 else "#efefef", labeljust="l",
                )  # fmt: skip
            around = self._frames[name]
        around.add_node(key, **attributes)

    def arrows(self, pairs: Mapping[tuple[str, str], bool]) -> None:
        """Add an arrow for every pair of boxes; dashed where it leads on to the next of a run.

        What flows to many boxes (a timestep) is drawn lightly, and does not shape the layout.
        """
        real = {pair: onward for pair, onward in pairs.items() if pair[0] != pair[1]}
        fan = Counter(source for source, _ in real)
        seen: set[str] = set()
        for (source, target), onward in real.items():
            look: dict[str, str] = {}
            if onward:
                look = {"style": "dashed", "color": _QUIET, "constraint": "false"}
            elif fan[source] >= _WIDE:
                look = {"color": _FAINT} | ({"constraint": "false"} if source in seen else {})
                seen.add(source)
            self.graph.add_edge(source, target, **look)
