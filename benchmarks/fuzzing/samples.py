"""Valid things for q2 to read, small, made by what writes them."""

import hashlib
import json
import pickle
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

import q2
from q2.denoisers import load
from q2.denoisers.saving.save import save_packed
from q2.files import write_json, write_text
from q2.graph.flow.units import find_units
from q2.models.model import load_model
from q2.passes.transform.quantize import Quantize
from q2.quant import Recipe, builtin_quantizer
from q2.quant.bank import BankPlan, LayerPlan, build
from q2.quant.calibration.rows import RowPlan, write_index, write_rows
from q2.quant.sensitivity import SensitivityTable
from q2.search.predictor.dataset import GraphSet
from q2.search.predictor.label import label
from q2.search.predictor.modules import score_modules
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.train import Training
from q2.search.predictor.trained import Trained, train
from q2.search.reduced import ReducedSpace, UnitVariants
from q2.search.space import Space, SpaceChoice
from q2.search.subject import Subject
from q2.search.trials.exchange import json_lines
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from q2.session.modules.saving import save_graph
from q2.settings import ModelSettings

__all__ = ["Samples", "make_samples", "quantizers"]

LAYERS = ("proj", "blocks.0.to_q", "blocks.0.to_k", "blocks.0.ff", "split")
OPTIONS = ("kmeans-c-4", "uaq-3", "uaq-4")
QUICK = Training(folds=2, epochs=1, batch=16)
MASE = """
model = "jsc-tiny"
dataset = "jsc"
task = "cls"
max_epochs = 3
learning_rate = 1e-2

[passes.quantize]
by = "type"
[passes.quantize.default.config]
name = "integer"
data_in_width = 8
data_in_frac_width = 4
weight_width = 8
weight_frac_width = 4

[search.search_space]
name = "graph/quantize/mixed_precision_ptq"
[search.strategy]
name = "optuna"
[search.strategy.metrics.accuracy]
scale = 1.0
direction = "maximize"
"""
CRASH = """
format = 1
run = "digits-dit.toml"
passes = "stats{samples=2},quantize{default=uaq-4}"
verify_each = false
[failure]
title = "quantize"
number = 2
error = "ValueError: no"
[settings.denoiser]
name = "digits-dit"
[versions]
q2 = "0.1.0"
"""
quantizers = builtin_quantizer


@dataclass(frozen=True)
class Samples:
    """The folders, by what is in them, and what some readers need beside."""

    root: Path
    layers: Sequence[str]
    space: Space
    graphs: GraphSet
    segment: str
    packed_weights: str

    def __getattr__(self, name: str) -> Path:
        return self.root / name

    @staticmethod
    def names(folder: Path) -> list[str]:
        """Return the files of a folder."""
        return sorted(file.name for file in folder.iterdir())

    @staticmethod
    def module() -> nn.Module:
        """Return what the state dicts are of."""
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))

    @staticmethod
    def signed(folder: Path, rng: random.Random) -> None:
        """Make a predictor's checksum fit its tensors."""
        try:
            head = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
            head["sha256"] = hashlib.sha256((folder / "predictor.safetensors").read_bytes()).hexdigest()
            (folder / "predictor.json").write_text(json.dumps(head), encoding="utf-8")
        except (OSError, ValueError, TypeError, RecursionError):
            return

    @staticmethod
    def load_packed(folder: Path) -> None:
        """Load a packed folder as ``q2 sample --from`` does."""
        from q2.denoisers.saving.original import SavedFolder

        SavedFolder.find(str(folder))
        _ = load(checkpoint=str(folder), device="cpu").model


def make_samples(root: Path, *, slow: bool = True) -> Samples:
    """Make everything below `root` that is not there yet; what takes long, a denoiser and its labels, if `slow`."""
    torch.manual_seed(0)
    made = {
        "recipes": _recipes,
        "run": _trials,
        "pickles": _pickles,
        "bank": _bank,
        "rows": _rows,
        "graph_files": _graphs,
        "states": _states,
        "packed": _denoiser,
    }
    for name, make in made.items():
        if not (root / name).exists() and (slow or name != "packed"):
            make(root)
    if slow and not (root / "predictor").exists():
        _predictor(root)
    graphs = GraphSet.load(root / "graph_files" / "graphs.npz")
    (segment,) = (file.name for file in (root / "run" / "trials").glob("*.jsonl"))
    weights = "transformer/diffusion_pytorch_model.safetensors"
    return Samples(root, LAYERS, _space(), graphs, f"trials/{segment}", weights)


def _space() -> Space:
    return Space(tuple(SpaceChoice((name,), OPTIONS, 10) for name in LAYERS))


def _recipe(seed: int) -> dict[str, str]:
    rng = random.Random(seed)
    return {layer: rng.choice(OPTIONS) for layer in LAYERS}


def _recipes(root: Path) -> None:
    folder = root / "recipes"
    folder.mkdir(parents=True)
    Recipe.of(_recipe(0), "digits-dit", "00ff", 3.7, "ab12", {"proj": 20.0}).save(folder / "recipe.toml")
    units = (UnitVariants("block", LAYERS[1:3], (("uaq-3", "uaq-4"), ("uaq-4", "uaq-3"))),)
    layers = {"proj": ("uaq-3", "uaq-4")}
    ReducedSpace(Subject("digits-dit", "00ff"), layers, units, {}, "by hand").save(folder / "top.toml")
    rows = {layer: {"uaq-3": 12.0, "uaq-4": 18.5} for layer in LAYERS}
    base = dict.fromkeys(LAYERS, "none")
    SensitivityTable("digits-dit", "00ff", "forward", {"seed": 1}, base, float("nan"), rows).save(
        folder / "sensitivity.json"
    )
    write_text(folder / "crash.toml", CRASH)
    write_text(folder / "mase.toml", MASE)


def _trials(root: Path) -> None:
    fingerprint = Fingerprint("digits-dit", "00ff", "0.1.0", {"images": 200})
    found = [
        Trial(_recipe(i), {"avg_bits": 3.5, "PSNR": 20.0 + i}, {"PSNR": (19.0 + i, 21.0 + i)}, number=i, seconds=1.0)
        for i in range(4)
    ]
    found.append(Trial(_recipe(9), number=4, state="failed", error="killed"))
    run = root / "run"
    TrialStore.open(run / "trials", fingerprint).extend(found)
    TrialStore.open(root / "empty", fingerprint)
    write_text(root / "trials" / "trials.json", "".join(json_lines(found, fingerprint)))
    write_text(run / "effective.toml", 'seed = 7\n[denoiser]\nname = "digits-dit"\n[search]\ntarget = "PSNR"\n')
    write_json(run / "report.json", {"denoiser": {"name": "digits-dit"}})
    write_json(run / "manifest.json", {"run": {"kind": "search", "denoiser": "digits-dit"}, "versions": {"q2": "0.1"}})
    Recipe.of(_recipe(0), "digits-dit", "00ff", 3.7).save(run / "recipe.toml")


def _pickles(root: Path) -> None:
    folder = root / "pickles"
    folder.mkdir()
    config = {f"model.{name}.weight_quantizer": ["mse-4", 100, 25.0, 0.25] for name in LAYERS}
    entry = {"config": config, "FID-GT-1k": np.float64(91.5).item(), "avg_bits": 3.75, "note": "x"}
    (folder / "cache.pkl").write_bytes(pickle.dumps([entry, {"config": dict(list(config.items())[:2])}]))
    blocks = [["mbconv3_e4_k5", "mbconv3_e6_k3"], ["mbconv3_e3_k7"]]
    caches = [{"original config": [224, blocks], "acc": 0.75, "latency": 11.2}, {"net": blocks[:1], "acc": 0.7}]
    (folder / "autobuild.pkl").write_bytes(pickle.dumps(caches[:1]))


def _bank(root: Path) -> None:
    folder = root / "bank"
    weights = {"proj": torch.randn(4, 6).half(), "split": torch.randn(3, 8).half()}
    layers = {
        "proj": LayerPlan((4, 6), {"proj": None}),
        "split": LayerPlan((3, 8), {"split": (0, 5), "split#1": (5, 8)}),
    }
    plan = BankPlan("toy", "ab12", "float16", 16, ("kmeans-c-2", "uaq-3"), layers)
    build(folder, plan, weights.__getitem__, quantizers)
    choices = {name: [4.0, {"kmeans-c-2": 0.5, "uaq-3": None}] for name in ("proj", "split", "split#1")}
    table = {"q2": "outputs", "version": 1, "bank": plan.fingerprint, "rows": "00ff", "choices": choices}
    write_json(folder / "outputs.json", table)


def _rows(root: Path) -> None:
    folder = root / "rows"
    folder.mkdir()
    plan = RowPlan("toy", "ab12", "float32", 4, 2, 16, 0, 2, "", "", {"proj": "proj", "to_q": "to_q", "to_k": "to_q"})
    for group in plan.groups:
        for batch in range(len(plan.batches)):
            write_rows(folder, plan, group, batch, torch.randn(plan.share(batch), 3))
    write_index(folder, plan, {group: [20, 20] for group in plan.groups})


def _graphs(root: Path) -> None:
    rng, plain = random.Random(1), []
    for _ in range(24):
        nodes = [
            {"unit": f"u{i // 2}", "name": f"n{i}", "op": rng.choice("ab"), "width": rng.random()} for i in range(4)
        ]
        metrics = {"acc": sum(node["width"] for node in nodes), "latency": rng.random()}  # type: ignore[misc]
        plain.append({"nodes": nodes, "edges": [[0, 1], [1, 2], [2, 3]], "metrics": metrics})
    write_json(root / "graph_files" / "graphs.json", {"graphs": plain[:3]})
    graphs = GraphSet.of(plain)
    graphs.save(root / "graph_files" / "graphs.npz")


def _predictor(root: Path) -> None:
    graphs = GraphSet.load(root / "graph_files" / "graphs.npz")
    trained = train(graphs, "acc", QUICK)
    trained.save(root / "predictor")
    score_modules(graphs, trained).save(root / "graph_files" / "modules.json")


def _states(root: Path) -> None:
    state = Samples.module().state_dict()
    (root / "states").mkdir()
    save_file(state, root / "states" / "model.safetensors", {"format": "pt"})
    torch.save(state, root / "states" / "model.pt")
    settings = ModelSettings(name="jsc-tiny")
    model = load_model(settings)
    graph = q2.trace(model.module, model.example_inputs())
    q2.run_passes(graph, [Quantize(default="uaq-4")])
    save_graph(graph, settings, root / "saved")


def _denoiser(root: Path) -> None:
    denoiser = load("dit", tiny=True, device="cpu")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    _labels(root / "labels", graph)
    q2.run_passes(graph, [Quantize(default="uaq-4")], denoiser=denoiser)
    save_packed(denoiser, root / "packed")


def _labels(folder: Path, graph: q2.Graph) -> None:
    folder.mkdir(exist_ok=True)
    flow = graph.flow()
    nodes = [node for node, data in flow.nodes(data=True) if data["kind"] == "weight"]
    errors = {node: {option: 2.0 ** -int(option[-1]) for option in OPTIONS} for node in nodes}
    sizes = {node: {option: 100.0 * int(option[-1]) for option in OPTIONS} for node in nodes}
    units = find_units(flow, graph.model, None, [])
    space = NodeSpace.from_flow(flow, units, OPTIONS, sizes=sizes, weights=dict.fromkeys(nodes, 100), errors=errors)
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(OPTIONS), (24, len(space.choices)))
    trained: Trained = train(space.graphs(chosen, {"y": rng.random(24)}), "y", QUICK)
    space.save(folder / "space.npz")
    label(space, trained).save(folder / "labels.npz")
