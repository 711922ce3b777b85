"""Caches of AutoBuild (CVPR'24) as plain graphs: sequences of blocks (``custom``) and ONNX graphs (``onnx_ir``).

A cache is a pickled list of dictionaries, an architecture each: metrics beside ``original config`` or ``graph``. It is
read by the restricted unpickler: ONNX graphs and their nodes are taken as records of plain values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from q2.errors import PredictorError, TrialError
from q2.search.trials.unpickle import read_pickle

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_autobuild"]

_RECORDS = ("onnx_ir.graph.Graph", "onnx_ir.node.Node")
_BLOCK = re.compile(r"(?P<op>mbconv[23])_e(?P<expansion>\d+)_k(?P<kernel>\d+)")
_MERGED = 5  # the stage of ProxylessNAS's that its last, of one block, is merged with
_SIDES = ("channels", "height", "width")
_SPATIAL = ("height", "width", "depth")
Plain = dict[str, Any]


def read_autobuild(path: str | Path) -> tuple[dict[str, list[Plain]], tuple[str, ...]]:
    """Return a cache in the JSON format of `GraphSet.read_json`, and the metrics that some architecture lacks.

    These are left out. Of a sequence every block is a node with ``unit`` (its stage), ``stage``, ``layer``, ``op``,
    ``expansion``, ``kernel`` as text, and the input's ``resolution``; the last stage of ProxylessNAS, one block, is of
    unit 5, as in AutoBuild. Of an ONNX graph: ``op``, and as numbers the sides of two inputs and outputs, kernel,
    dilation, groups by channel and bias. Raises PredictorError, one line with file and entry.
    """
    try:
        found = read_pickle(path, records=_RECORDS)
    except TrialError as error:
        raise PredictorError(str(error)) from error
    if not isinstance(found, list | tuple) or not found:
        raise PredictorError(f"{path}: holds a {type(found).__name__}, expected AutoBuild's list of architectures")
    graphs = []
    for index, entry in enumerate(found):
        try:
            graphs.append(_graph(entry))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            reason = str(error) if type(error) is ValueError else f"{type(error).__name__} at {error}"
            raise PredictorError(f"{path}: entry {index}: no architecture of AutoBuild's: {reason}") from None
    every = [set(graph["metrics"]) for graph in graphs]
    common = set.intersection(*every)
    if not common:
        raise PredictorError(f"{path}: no metric that all {len(graphs)} architectures have")
    for graph in graphs:
        graph["metrics"] = {name: value for name, value in graph["metrics"].items() if name in common}
    return {"graphs": graphs}, tuple(sorted(set.union(*every) - common))


def _graph(entry: object) -> Plain:
    if not isinstance(entry, dict):
        raise ValueError(f"expected a dictionary, found {type(entry).__name__}")
    metrics = {
        str(key): float(value)
        for key, value in entry.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if "graph" in entry:
        return {**_onnx(entry["graph"]), "metrics": metrics}
    if "original config" in entry:
        resolution, stages = entry["original config"][:2]
    elif "net" in entry:
        resolution, stages = entry.get("resolution", 224), entry["net"]
        metrics.pop("resolution", None)
    else:
        raise ValueError(
            f"expected 'original config', 'net' or 'graph' among {', '.join(map(str, entry)) or 'no keys'}"
        )
    return {**_sequence(stages, float(resolution)), "metrics": metrics}


def _sequence(stages: Sequence[Sequence[str]], resolution: float) -> Plain:
    """Return a chain of blocks."""
    nodes = []
    for stage, blocks in enumerate(stages, 1):
        for layer, text in enumerate(blocks, 1):
            found = _BLOCK.fullmatch(text)
            if found is None:
                raise ValueError(f"block {text!r}, expected one such as 'mbconv3_e4_k5'")
            unit = min(stage, _MERGED) if found["op"] == "mbconv2" else stage
            place = {"unit": f"unit {unit}", "name": text, "stage": str(stage), "layer": str(layer)}
            nodes.append({**place, **found.groupdict(), "resolution": resolution})
    if not nodes:
        raise ValueError("no block")
    return {"nodes": nodes, "edges": [[i, i + 1] for i in range(len(nodes) - 1)]}


def _onnx(graph: Mapping[str, Any]) -> Plain:
    """Return an ONNX graph of AutoBuild's, whose attributes are given."""
    nodes = list(graph["nodes"])
    place = {node["str_id"]: i for i, node in enumerate(nodes)}
    edges = [[place[source], place[target]] for source, targets in graph["src2dst"].items() for target in targets]
    return {"nodes": [_node(node) for node in nodes], "edges": sorted(edges)}


def _node(node: Mapping[str, Any]) -> Plain:
    made: Plain = {"name": str(node["str_id"]), "op": str(node["op_type"])}
    outputs = list(_shapes(node["outputs"]))
    for title, shapes in (("in", list(_shapes(node["inputs"]))), ("out", outputs)):
        for i in range(2):
            sides = shapes[i][1:4] if i < len(shapes) else []
            made |= _padded(f"{title}{i}", _SIDES, sides)
    kernel, dilations = _integers(node, "kernel_shape"), _integers(node, "dilations")
    made |= _padded("kernel", _SPATIAL, kernel)
    made |= _padded("dilation", _SPATIAL, dilations or [1] * len(kernel))
    channels = outputs[0][1] if outputs and len(outputs[0]) > 1 else 1
    group = _attribute(node, "group")
    made["groups by channel"] = float(group.get("i", 0)) / max(1, channels) if group else 0.0
    made["bias"] = float(any(str(name).endswith("bias") for name in node.get("initializer") or ()))
    return made


def _padded(title: str, names: Sequence[str], values: Sequence[int]) -> dict[str, float]:
    """Return named numbers, 0 for missing ones."""
    return {f"{title} {name}": float(values[i]) if i < len(values) else 0.0 for i, name in enumerate(names)}


def _shapes(tensors: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    """Yield the shape of every tensor, batch first; an empty one where none is known."""
    for tensor in tensors:
        shape = tensor.get("type", {}).get("tensorType", {}).get("shape", {})
        yield [int(side.get("dimValue", 0)) for side in shape.get("dim", ())]


def _attribute(node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an attribute as ONNX spells it in JSON, empty where the node has none."""
    listed = node.get("attribute") or []
    every = [listed] if isinstance(listed, dict) else listed
    return next((one for one in every if one.get("name") == name), {})


def _integers(node: Mapping[str, Any], name: str) -> list[int]:
    return [int(value) for value in _attribute(node, name).get("ints", ())]
