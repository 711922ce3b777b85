"""Measures a module's configurations, one after the other, each on a copy: the original is never touched."""

import copy
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from q2.config import RunFile, Table
from q2.errors import ConfigError, Q2Error
from q2.graph import Graph, trace
from q2.models.evaluation import evaluate
from q2.models.training import train
from q2.passes import Change, PassContext, PassManager, TransformPass, is_transform
from q2.passes.analysis.avg_bits import averages
from q2.passes.analysis.flops import batch_of, node_flops
from q2.passes.analysis.latency import seconds_of
from q2.passes.analysis.layer_bits import layer_bits
from q2.passes.analysis.model_size import model_bits
from q2.passes.transform.apply_formats import apply_formats
from q2.passes.transform.channel_width import ChannelConfig
from q2.passes.transform.formats import FormatConfig, formatted_layers, is_format
from q2.passes.transform.widen import widen
from q2.plugins.catalogue import one_line
from q2.search.engines.base import Make, Places, Worker
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.lists import ListSpace
from q2.session.modules.session import ModuleSession

__all__ = ["ModuleLoader", "Searched", "applied", "prepared", "space_of"]

_WARMUP, _REPEATS = 2, 9


@dataclass(frozen=True)
class ModuleLoader:
    """Loads a run's module where it is to work; what is called makes what measures it. It can be pickled."""

    run: RunFile

    @property
    def device(self) -> str:
        """The device that the run file names for the module."""
        return self.run.settings.model.device

    def __call__(self) -> Make:
        """Load, and apply the file's own transforms."""
        searched = Searched(ModuleSession(self.run))
        _ = searched.space  # so that no trial's seconds have it
        return partial(_worker, searched)


def _worker(searched: "Searched", places: Places) -> Worker:
    return searched


@dataclass(eq=False)
class Searched:
    """A session's module with its transforms, except the searched ones, and its space of lists."""

    session: ModuleSession

    @cached_property
    def graph(self) -> Graph:
        """The graph that every trial starts from; trials work on copies."""
        return prepared(self.session)

    @cached_property
    def space(self) -> ListSpace:
        """The space of the run file."""
        return space_of(self.session, self.graph)

    def __call__(self, job: Job) -> Evaluated:
        """Measure a configuration. What goes wrong makes a failed trial with the reason in one line."""
        start, spent = time.perf_counter(), dict.fromkeys(("switch", "sample", "score"), 0.0)
        try:
            metrics = self._measured(job, spent)
        except Exception as error:  # noqa: BLE001 (a trial that fails must not end the search)
            reason = str(error) if isinstance(error, Q2Error) else one_line(error)
            return Evaluated(job.trial("failed", reason), spent)
        return Evaluated(replace(job.trial(), metrics=metrics, seconds=round(time.perf_counter() - start, 3)), spent)

    def _measured(self, job: Job, spent: dict[str, float]) -> dict[str, float]:
        settings, model = self.session.settings, self.session.model
        wanted, data = settings.search.runner, model.need_data("a search")
        start = time.perf_counter()
        graph = applied(self.graph, settings.search.space.transform, self.space.configs(job.recipe), settings.seed)
        spent["switch"] = time.perf_counter() - start
        start = time.perf_counter()
        if wanted.name == "train":
            train(graph.model, data, settings.train, seed=settings.seed)
        score = evaluate(graph.model, data, wanted.split, samples=wanted.samples)
        spent["sample"] = time.perf_counter() - start
        start = time.perf_counter()
        found = {"accuracy": score.accuracy, "loss": score.loss} | _costs(graph, self.session.context())
        spent["score"] = time.perf_counter() - start
        return found


def _costs(graph: Graph, ctx: PassContext) -> dict[str, float]:
    layers = layer_bits(graph, ctx)
    bits = averages([each for each in layers if each.layer in graph.weight_layers])
    counted, batch = [each for each in node_flops(graph, ctx) if each.counted], batch_of(graph)
    parts, rest = model_bits(graph, ctx)
    return {
        "latency": float(np.median(seconds_of(graph, _WARMUP, _REPEATS))),
        "avg_bits": bits["w_avg_bit"],
        "average_bitwidth": (bits["w_avg_bit"] + bits["in_avg_bit"]) / 2,
        "weight_bits": bits["w_overall_bit"],
        "bitops": sum(each.bitops for each in counted) / batch,
        "flops": sum(each.macs for each in counted) / batch,
        "model_size": (sum(held for held, _ in parts.values()) + rest) / 8,
    }


def prepared(session: ModuleSession) -> Graph:
    """Return the session's graph after the transforms of its file, but for the one that is searched."""
    searched = session.settings.search.space.transform

    def counts(step: object) -> bool:
        return isinstance(step, TransformPass) and step.name != searched

    manager = PassManager(session.passes, session.context(), only=lambda step: is_transform(step) and counts(step))
    with session.at():
        manager.run(session.graph)
    return session.graph


def space_of(session: ModuleSession, graph: Graph) -> ListSpace:
    """Return the run file's space, checked: every value of every list makes sense. Raises `ConfigError`."""
    wanted = session.settings.search.space
    weights = {name: layer.weights for name, layer in graph.weight_layers.items()}
    types = (
        formatted_layers(graph)
        if wanted.transform == "quantize"
        else {name: layer.type for name, layer in graph.weight_layers.items()}
    )
    with session.at("search", "space"):
        if wanted.files:
            raise ConfigError("files: reduced spaces are of denoisers; a module has lists")
        space = ListSpace.of_lists(wanted, types, weights)
    first = {choice.name: choice.options[0] for choice in space.choices}
    for choice in space.choices:
        for option in choice.options:
            layer = choice.name.rpartition(":")[0]
            config = space.configs({**first, choice.name: option})[layer]
            with session.at("search", "space", "lists"):
                _config(wanted.transform, layer, config)
    return space


def applied(graph: Graph, transform: str, configs: dict[str, Table], seed: int) -> Graph:
    """Return a graph of its own with a configuration: a copy of the module, quantized or widened.

    Raises `Q2Error`, with the layer, for a configuration that does not fit.
    """
    module = copy.deepcopy(graph.model)
    mine = trace(module, graph.example_inputs)
    if transform == "channel-width":
        plan = dict.fromkeys(mine.weight_layers, 1.0)
        for layer, table in configs.items():
            found = _config(transform, layer, table)
            plan[layer] = found.channel_multiplier if isinstance(found, ChannelConfig) else 1.0
        widen(mine, plan, seed)
        return mine
    formats = {layer: _config(transform, layer, table) for layer, table in configs.items()}
    apply_formats(mine, {n: each for n, each in formats.items() if isinstance(each, FormatConfig)}, Change(""))
    return mine


def _config(transform: str, layer: str, table: Table) -> FormatConfig | ChannelConfig | None:
    """Return what a layer's settings mean; None where it stays as it is."""

    def where(key: tuple[str, ...]) -> str:
        return ".".join((layer, *key))

    if transform == "channel-width":
        known = {key: value for key, value in table.items() if key != "name"}
        unknown = next((key for key in known if key != "channel_multiplier"), None)
        if unknown:
            raise ConfigError(f"{where((unknown,))}: unknown key; expected channel_multiplier")
        return ChannelConfig(float(known.get("channel_multiplier", 1)))
    if str(table.get("name", "none")).lower() in ("na", "none"):
        return None
    if not is_format(table):
        raise ConfigError(f"{where(('name',))}: {table['name']!r} is no number format")
    return FormatConfig.read(table, where)
