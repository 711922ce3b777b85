"""Watching nodes while a denoiser denoises: what each reads and gives, step by step, in bounded memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from q2.errors import TraceError
from q2.graph import Edit, Graph
from q2.graph.tracing.inputs import forward_signature
from q2.passes.base import LayerError, PassContext
from q2.quant.calibration.sampling import Sample

if TYPE_CHECKING:
    from q2.denoisers import Ask

__all__ = ["KeepRows", "Observer", "Seen", "Watched", "watch"]

_NAME = "watching nodes"


@dataclass(frozen=True)
class Seen:
    """One computation of one node. Its tensors are the model's own: read them at once, or copy what is to be kept.

    `name` is a module's path, or the node's name where it calls none. `args` and `kwargs` are the node's arguments,
    `output` its value. `call` counts the calls of the denoiser for the images at hand, from 0; `step` the denoising
    steps: calls of one timestep, as guidance makes them, are one. `images` are the numbers of the images in the batch.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    call: int
    step: int
    images: range

    @property
    def input(self) -> Tensor:
        """The first tensor, of any shape, among the arguments. Raises `ValueError` if there is none."""
        return _tensor((self.args, dict(self.kwargs)), f"{self.name} reads no tensor")

    @property
    def tensor(self) -> Tensor:
        """The first tensor, of any shape, in the output. Raises `ValueError` if there is none."""
        return _tensor(self.output, f"{self.name} gives no tensor")


Observer = Callable[[Seen], object]
"""Is given what a node has computed, and returns nothing that is used."""


@dataclass(frozen=True)
class Watched:
    """What was watched: how many calls of the model there were, and how often each node was seen."""

    calls: int
    seen: Mapping[str, int]


@dataclass
class KeepRows:
    """An observer that keeps a uniform sample of at most `size` rows of what a node computes.

    A row is a vector along the last dimension of the node's output, or of its first input. The memory is that of the
    rows; the same `seed` gives the same rows on any machine.
    """

    size: int
    of: Literal["input", "output"] = "output"
    seed: str = ""
    _sample: Sample | None = field(default=None, init=False, repr=False)

    def __call__(self, seen: Seen) -> None:
        """Sample the rows of a node's tensor."""
        rows = (seen.input if self.of == "input" else seen.tensor).detach()
        flat = rows.reshape(-1, rows.shape[-1] if rows.ndim else 1)
        self._sample = self._sample or Sample(self.size, self.seed)
        self._sample.offer(len(flat), lambda chosen: flat[chosen.to(flat.device)])

    @property
    def seen(self) -> int:
        """How many rows went by."""
        return self._sample.seen if self._sample else 0

    @property
    def values(self) -> Tensor | None:
        """The rows that are kept, (n, length), on the CPU, in the order of computation; None if there are none."""
        return self._sample.values() if self._sample else None


def watch(
    graph: Graph,
    ctx: PassContext,
    observers: Mapping[str, Observer],
    *,
    images: int = 8,
    steps: int = 0,
    batch: int = 100,
    ask: "Ask | None" = None,
) -> Watched:
    """Run the denoiser, the module or the example inputs of a context with observers in the graph.

    See `PassContext.watch`. What an observer raises names its node.
    """
    state = _State(graph, ctx)
    graph.edit(_NAME, lambda edit: state.put(edit, observers))
    hook = graph.model.register_forward_pre_hook(state.count, with_kwargs=True)
    try:
        with graph.installed(), torch.no_grad():
            _run(graph, ctx, images=images, steps=steps, batch=batch, ask=ask)
    finally:
        hook.remove()
        graph.edit(_NAME, None)
    return Watched(state.calls, dict(state.seen))


def _run(graph: Graph, ctx: PassContext, *, images: int, steps: int, batch: int, ask: "Ask | None") -> None:
    if ctx.denoiser is not None:
        ctx.denoiser.generate(images, seed=ctx.seed, steps=steps or None, batch=batch, ask=ask, progress=ctx.progress)
    elif ctx.model is not None and ctx.model.data is not None:
        for inputs, _ in ctx.model.data.batches("train", samples=images):
            graph.model(inputs.to(ctx.model.device))
    else:
        graph.model(**graph.example_inputs)


class _State:
    """Counts calls and steps, and hands over what nodes compute."""

    def __init__(self, graph: Graph, ctx: PassContext) -> None:
        self.ctx, self.calls = ctx, 0
        self.seen: dict[str, int] = {}
        self._signature = forward_signature(graph.model)
        self._images = range(0)
        self._call = self._step = -1
        self._time: float | None = None
        self._checked = False

    def count(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note that the model is called, and for which timestep."""
        images = self.ctx.denoiser.drawing if self.ctx.denoiser else range(0)
        if images != self._images:
            self._images, self._call, self._step, self._time = images, -1, -1, None
        arguments = self._signature.bind(*args, **kwargs).arguments
        time = _first(arguments.get("timestep", arguments.get("timesteps")))
        self._step += time is None or time != self._time
        self._time = time
        self._call += 1
        self.calls += 1

    def put(self, edit: Edit, observers: Mapping[str, Observer]) -> None:
        """Put observers behind the nodes that their patterns mean."""
        wanted: dict[fx.Node, list[Observer]] = {}
        for pattern, observer in observers.items():
            for node in self._nodes(edit, pattern):
                if node.op != "output":
                    wanted.setdefault(node, []).append(observer)
        self._checked = True
        last = [node for node in edit.graph.nodes if node.op == "placeholder"][-1:]
        for node, several in wanted.items():
            name = str(node.target) if node.op == "call_module" else node.name
            with edit.graph.inserting_after(*(last if node.op == "placeholder" else [node])):
                edit.graph.call_function(_Tap(self, name, several), (node.args, dict(node.kwargs), node))

    def _nodes(self, edit: Edit, pattern: str) -> list[fx.Node]:
        """Return the nodes that a pattern means; a path that was traced later may have none of them."""
        try:
            return edit.nodes(pattern)
        except TraceError:
            if not self._checked:
                raise
            return []

    def hand(self, name: str, observers: list[Observer], args: Any, kwargs: Any, output: Any) -> None:
        """Let the observers of a node see what it has computed."""
        self.seen[name] = self.seen.get(name, 0) + 1
        seen = Seen(name, tuple(args), kwargs, output, self._call, self._step, self._images)
        try:
            for observer in observers:
                observer(seen)
        except Exception as error:
            raise LayerError(name) from error


class _Tap:
    """A node's target: hands over what another node has computed."""

    def __init__(self, state: _State, name: str, observers: list[Observer]) -> None:
        self.__name__ = self.__qualname__ = "watch"
        self.__module__ = __name__
        self._hand = state.hand
        self._given = name, observers

    def __call__(self, args: Any, kwargs: Any, output: Any) -> None:
        self._hand(*self._given, args, kwargs, output)


def _tensor(value: object, missing: str) -> Tensor:
    found = next((leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)), None)
    if found is None:
        raise ValueError(missing)
    return found


def _first(value: object) -> float | None:
    if isinstance(value, Tensor):
        return float(value.reshape(-1)[0]) if value.numel() else None
    return float(value) if isinstance(value, int | float) else None
