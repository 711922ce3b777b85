"""AutoBuild's caches become plain graphs: sequences and ONNX graphs, of files made as its code makes them."""

import json
import pickle
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from q2.errors import PredictorError
from q2.search.predictor.autobuild import read_autobuild
from q2.search.predictor.dataset import GraphSet
from tests.test_cli import run

MBV3 = [["mbconv3_e4_k5", "mbconv3_e6_k3"], ["mbconv3_e3_k7", "mbconv3_e3_k3", "mbconv3_e6_k5"]]
PN = [[f"mbconv2_e{e}_k5"] * 2 for e in (3, 4, 6, 3, 4)] + [["mbconv2_e6_k7"]]


def written(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def cache() -> list[dict[str, Any]]:
    first = {"original config": [224, MBV3], "acc": np.float64(0.75), "latency_gpu": 11.2, "latency_npu": 3.0}
    return [first, {"original config": (192, MBV3[:1]), "acc": 0.7, "latency_gpu": np.float32(8.5), "tag": "x"}]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_sequences_of_blocks_are_chains_with_units(tmp_path: Path, protocol: int) -> None:
    found, lacking = read_autobuild(written(tmp_path / "ofa_mbv3_custom_cache.pkl", cache(), protocol))
    first, second = found["graphs"]
    assert lacking == ("latency_npu",)
    assert first["metrics"] == {"acc": 0.75, "latency_gpu": 11.2}
    assert second["metrics"] == {"acc": 0.7, "latency_gpu": 8.5}
    assert first["edges"] == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert first["nodes"][3] == {
        "unit": "unit 2",
        "name": "mbconv3_e3_k3",
        "stage": "2",
        "layer": "2",
        "op": "mbconv3",
        "expansion": "3",
        "kernel": "3",
        "resolution": 224.0,
    }
    made = GraphSet.of(found["graphs"])
    assert [(unit.name, len(unit.nodes), unit.hops) for unit in made.topologies[0].units] == [
        ("unit 1", 2, 1),
        ("unit 2", 3, 2),
    ]
    assert (list(made.fields), made.numbers) == (["stage", "layer", "op", "expansion", "kernel"], ("resolution",))


def test_the_last_stage_of_proxylessnas_is_of_its_fifth_unit(tmp_path: Path) -> None:
    found, _ = read_autobuild(written(tmp_path / "a.pkl", [{"net": PN, "acc": 0.7}]))
    units = GraphSet.of(found["graphs"]).topologies[0].units
    assert [(unit.name, unit.hops) for unit in units] == [(f"unit {i}", 1) for i in range(1, 5)] + [("unit 5", 2)]


def onnx(monkeypatch: pytest.MonkeyPatch) -> object:
    """A graph of the classes that AutoBuild's files name: a convolution and a ReLU between an input and an output."""
    modules = {name: ModuleType(name) for name in ("onnx_ir", "onnx_ir.graph", "onnx_ir.node")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    kinds = {}
    for place, name in (("onnx_ir.graph", "Graph"), ("onnx_ir.node", "Node")):
        kinds[name] = type(name, (), {"__module__": place})
        setattr(modules[place], name, kinds[name])

    def tensor(*sides: int) -> dict[str, Any]:
        return {"name": "t", "type": {"tensorType": {"shape": {"dim": [{"dimValue": str(side)} for side in sides]}}}}

    def node(name: str, op: str, inputs: list[Any], outputs: list[Any], **more: Any) -> object:
        made = kinds["Node"]()
        vars(made).update(str_id=name, name=name, op_type=op, inputs=inputs, outputs=outputs)
        vars(made).update({"attribute": None, "initializer": None} | more)
        return made

    attribute = [{"name": "kernel_shape", "ints": ["3", "5"]}, {"name": "group", "i": "8"}]
    conv = node("1", "Conv", [tensor(1, 3, 32, 30)], [tensor(1, 16, 16, 15)], attribute=attribute)
    vars(conv)["initializer"] = {"0.weight": {"dims": ["16"]}, "0.bias": {"dims": ["16"]}}
    relu = node("2", "Relu", [tensor(1, 16, 16, 15)], [tensor(1, 16, 16, 15)])
    ends = [node("0", "input_dummy", [], [tensor(1, 3, 32, 30)]), node("3", "output_dummy", [tensor()], [])]
    graph = kinds["Graph"]()
    targets = defaultdict(list, {"1": ["2"], "0": ["1"], "2": ["3"]})
    vars(graph).update(nodes=[ends[0], conv, relu, ends[1]], src2dst=targets, input_nodes=ends[:1], metadata={})
    return graph


def test_onnx_graphs_are_read_without_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        path = written(tmp_path / "ofa_mbv3_pn_onnx_ir_cache.pkl", [{"graph": onnx(patch), "acc": 0.7}])
    assert "onnx_ir" not in sys.modules
    (graph,) = read_autobuild(path)[0]["graphs"]
    assert graph["edges"] == [[0, 1], [1, 2], [2, 3]]
    conv, relu = graph["nodes"][1:3]
    assert [conv[key] for key in ("name", "op", "in0 channels", "in0 height", "out0 width")] == ["1", "Conv", 3, 32, 15]
    assert [conv[key] for key in ("kernel height", "kernel width", "kernel depth", "dilation width")] == [3, 5, 0, 1]
    assert [conv[key] for key in ("groups by channel", "bias", "in1 channels")] == [0.5, 1, 0]
    assert [relu[key] for key in ("kernel height", "bias", "dilation height")] == [0, 0, 0]
    made = GraphSet.of([graph])
    assert (list(made.fields), made.topologies[0].nodes) == (["op"], ("0", "1", "2", "3"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "holds a dict, expected AutoBuild's list of architectures"),
        ([3], "entry 0: no architecture of AutoBuild's: expected a dictionary, found int"),
        ([*cache(), {"acc": 0.7}], "entry 2: .*: expected 'original config', 'net' or 'graph' among acc"),
        ([{"original config": [224, [["mbconv4_e1"]]], "acc": 1.0}], "entry 0: .*: block 'mbconv4_e1', expected one"),
        ([{"original config": [224], "acc": 1.0}], "entry 0: no architecture"),
        ([{"original config": [224, MBV3]}], "no metric that all 1 architectures have"),
        ([{"graph": {"nodes": [{}]}, "acc": 1.0}], "entry 0: no architecture of AutoBuild's: KeyError at 'str_id'"),
    ],
)
def test_what_is_no_cache_is_one_line(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(PredictorError, match=rf"^.*a\.pkl: {message}[^\n]*$"):
        read_autobuild(written(tmp_path / "a.pkl", value))


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path, ("gone",)


def test_a_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match=r"a\.pkl: refused, it names 'pathlib\.Path'"):
        read_autobuild(written(tmp_path / "a.pkl", [Evil()]))


def test_the_command_writes_graphs_that_train_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "ofa_mbv3_custom_cache.pkl", cache())
    assert run(monkeypatch, "import", "autobuild", str(path)) == 0
    said = capsys.readouterr().out
    assert "2 graphs of 2 to 5 nodes, with acc, latency_gpu" in said
    assert "left out, as some architecture lacks them: latency_npu" in said
    made = path.with_suffix(".json")
    assert GraphSet.read_json(made).metrics["acc"].tolist() == [0.75, 0.7]
    assert json.loads(made.read_text(encoding="utf-8"))["graphs"] == read_autobuild(path)[0]["graphs"]
    assert run(monkeypatch, "import", "autobuild", str(path)) == 2
    assert capsys.readouterr().err == f"q2: --out {made}: already exists\n"
