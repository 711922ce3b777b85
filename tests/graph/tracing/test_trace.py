"""Tracing: what is traced equals eager for other calls, nothing is burnt in, and the model is left as it was."""

import threading
from typing import Any

import pytest
import torch
from torch import nn

from q2.errors import TraceError
from q2.graph import Graph, trace
from q2.graph.tracing.guards import is_guard, writes_in_place
from tests.graph.tiny import FAMILIES

SIX = list(FAMILIES)
CANNOT_VARY_TEXT = {"dit", "hunyuan"}
RETRACED_RESOLUTION = {"dit": 12, "pixart-alpha": 12, "pixart-sigma": 24}


@pytest.fixture(scope="module", params=SIX)
def traced(request: pytest.FixtureRequest) -> tuple[str, Graph]:
    name = request.param
    return name, trace(FAMILIES[name].build(), FAMILIES[name].example(batch=2))


def test_traced_equals_eager_for_other_batches_timesteps_and_text_lengths(traced: tuple[str, Graph]) -> None:
    name, graph = traced
    family = FAMILIES[name]
    before = graph.variants
    graph.verify()
    graph.verify(family.example(batch=3, timestep=7))
    graph.verify(family.example(batch=1, timestep=999))
    if name not in CANNOT_VARY_TEXT:
        graph.verify(family.example(batch=2, text=4))
    assert graph.variants == before


def test_a_resolution_re_traces_at_most_once_and_equals_eager(traced: tuple[str, Graph]) -> None:
    name, graph = traced
    family, size = FAMILIES[name], RETRACED_RESOLUTION.get(name, 24)
    before = graph.variants
    for timestep in (3, 400):
        graph.verify(family.example(size=size, timestep=timestep))
        graph.verify(family.example(timestep=timestep))
    assert graph.variants == before + (name in RETRACED_RESOLUTION)


def test_no_tensor_is_baked_into_the_graph(traced: tuple[str, Graph]) -> None:
    _, graph = traced
    assert all(not variant.constants for variant in graph._variants)
    named = {name for name, _ in (*graph.model.named_parameters(), *graph.model.named_buffers())}
    assert {node.target for node in graph.fx.nodes if node.op == "get_attr"} <= named
    assert not any("_tensor_constant" in name for module in graph.model.modules() for name in vars(module))


def test_nodes_know_their_values_without_data_and_their_modules(traced: tuple[str, Graph]) -> None:
    _, graph = traced
    values = [node.meta["val"] for node in graph.fx.nodes if node.op == "call_module"]
    assert values
    assert all(value.is_meta for value in values if isinstance(value, torch.Tensor))
    assert all(node.meta["nn_module_stack"] for node in graph.fx.nodes if node.op == "call_module")


class Decides(nn.Module):
    """Decides on shapes and on data, and writes in place."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.register_buffer("table", torch.arange(4.0))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, scale: float = 1.0) -> torch.Tensor:
        side = int(x.shape[1] ** 0.5)
        out = torch.zeros(x.shape[0], side, side, 4, dtype=x.dtype, device=x.device)
        out[:] = self.proj(x).reshape(-1, side, side, 4)
        out.mul_(scale)
        out += self.table
        if mask is not None and bool(torch.all(mask == 0)):
            out = -out
        if x.device.type == "mps":
            out = out.float()
        for piece in out.chunk(2, dim=0):
            piece.add_(1)
        return out


def test_guards_and_writes_in_place_survive_dead_code_elimination() -> None:
    graph = trace(Decides(), {"x": torch.randn(2, 16, 4), "mask": torch.zeros(3)})
    nodes = list(graph.fx.nodes)
    guards = sum(map(is_guard, nodes))
    writes = sum(writes_in_place(node.op, node.target, node.kwargs) for node in nodes)
    assert guards >= 3
    assert writes >= 4
    graph.eliminate_dead_code()
    assert (guards, writes) == (
        sum(map(is_guard, graph.fx.nodes)),
        sum(writes_in_place(node.op, node.target, node.kwargs) for node in graph.fx.nodes),
    )
    graph.verify()


def test_a_plain_number_stays_open_and_a_decision_on_data_re_traces() -> None:
    graph = trace(Decides(), {"x": torch.randn(2, 16, 4), "mask": torch.zeros(3), "scale": 2.0})
    graph.verify({"x": torch.randn(2, 16, 4), "mask": torch.zeros(5), "scale": 0.5})
    assert graph.variants == 1
    for _ in range(2):
        graph.verify({"x": torch.randn(2, 16, 4), "mask": torch.ones(5), "scale": 0.5})
    assert graph.variants == 2


def test_other_argument_structure_or_rank_re_traces_once() -> None:
    graph = trace(Decides(), {"x": torch.randn(2, 16, 4)})
    for _ in range(2):
        graph.verify({"x": torch.randn(2, 16, 4), "mask": torch.zeros(3)})
        graph.verify({"x": torch.randn(2, 16, 4), "mask": torch.zeros(3, 1)})
    assert graph.variants == 3


class Unpacks(nn.Module):
    """Has a Python loop whose length is a batch size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([row * i for i, row in enumerate(x)]).sum(0)


def test_a_loop_over_the_batch_is_guarded_and_not_silently_cut_short() -> None:
    graph = trace(Unpacks(), {"x": torch.randn(2, 3)})
    graph.verify({"x": torch.randn(4, 3)})
    assert graph.variants == 2


class Caches(nn.Module):
    """Keeps a tensor of the last call, as rotary embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.cache: dict[int, torch.Tensor] = {}
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = int(x.shape[1])
        if length not in self.cache:
            self.cache[length] = torch.arange(length, device=x.device)
        self.last = self.proj(x)
        return self.last + self.cache[length][:, None]


def test_caches_of_the_model_are_as_before_the_trace() -> None:
    model = Caches()
    x = torch.randn(2, 3, 4)
    before = dict(vars(model))
    graph = trace(model, {"x": x})
    assert vars(model) == before
    assert model.cache == {}
    assert model.last is None
    graph.verify()
    model(x)
    assert torch.is_tensor(model.last)


@pytest.mark.parametrize("name", ["pixart-alpha", "sdv15"])
def test_state_dict_attributes_and_inputs_are_untouched(name: str) -> None:
    model, inputs = FAMILIES[name].build(), FAMILIES[name].example()
    state = {key: (tensor, tensor.clone()) for key, tensor in model.state_dict(keep_vars=True).items()}
    attributes = {path: dict(vars(module)) for path, module in model.named_modules()}
    copies = {key: value.clone() for key, value in inputs.items() if torch.is_tensor(value)}
    random_state = torch.random.get_rng_state()
    trace(model, inputs)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(torch.equal(inputs[key], value) for key, value in copies.items())
    now = model.state_dict(keep_vars=True)
    assert list(now) == list(state)
    assert all(now[key] is tensor and torch.equal(tensor, copy) for key, (tensor, copy) in state.items())
    for path, module in model.named_modules():
        assert vars(module).keys() == attributes[path].keys()
        assert all(vars(module)[key] is value for key, value in attributes[path].items())


def test_torch_is_unpatched_afterwards_also_when_the_trace_fails() -> None:
    before = torch.arange, torch.finfo, nn.Module.__call__, nn.Module.__getattr__
    with pytest.raises(TraceError):
        trace(nn.Linear(4, 4), {"input": torch.randn(2, 3)})
    assert (torch.arange, torch.finfo, nn.Module.__call__, nn.Module.__getattr__) == before


def test_other_threads_run_models_while_one_traces() -> None:
    model, inputs = FAMILIES["dit"].build(), FAMILIES["dit"].example()
    with torch.no_grad():
        expected = model(**inputs).sample
    stop, wrong = threading.Event(), []

    def run() -> None:
        while not stop.is_set():
            with torch.no_grad():
                if not torch.equal(model(**inputs).sample, expected):
                    wrong.append(1)

    runner = threading.Thread(target=run)
    runner.start()
    tracers = [threading.Thread(target=trace, args=(model, inputs)) for _ in range(2)]
    for thread in tracers:
        thread.start()
    for thread in tracers:
        thread.join()
    stop.set()
    runner.join()
    assert not wrong


def test_weights_without_data_give_the_same_graph() -> None:
    family = FAMILIES["sdv15"]
    real = trace(family.build(), family.example())
    empty = trace(family.build(device="meta"), family.example(device="meta"))
    assert [str(node.target) for node in real.fx.nodes] == [str(node.target) for node in empty.fx.nodes]
    empty.verify()


class Routes(nn.Module):
    """Chooses a path by a value computed from weights, as mixtures of experts do."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.gate(x).sum() > 0 else -x


class Outer(nn.Module):
    """Holds a module that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Routes()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[0](x)  # type: ignore[no-any-return]


def test_a_decision_on_weights_is_one_line_with_the_module() -> None:
    with pytest.raises(TraceError, match=r"^trace Outer at 'blocks\.0': data-dependent control flow") as caught:
        trace(Outer(), {"x": torch.randn(2, 4)})
    assert "\n" not in str(caught.value)


def test_what_cannot_be_traced_can_be_made_a_leaf() -> None:
    graph = trace(Outer(), {"x": torch.randn(2, 4)}, leaf_types=(Routes,))
    assert [node.target for node in graph.fx.nodes if node.op == "call_module"] == ["blocks.0"]
    for _ in range(4):
        graph.verify({"x": torch.randn(3, 4)})
    assert graph.variants == 1


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"hidden_state": torch.randn(1, 4, 8, 8)}, "unknown input 'hidden_state'; did you mean 'hidden_states'"),
        ({"timestep": torch.tensor([3])}, "missing input 'hidden_states'"),
        ({"hidden_states": torch.randn(1, 5, 8, 8)}, "at 'pos_embed.proj'"),
        ({"hidden_states": None}, "no tensor among the inputs"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=f"trace DiTTransformer2DModel.*{message}") as caught:
        trace(FAMILIES["dit"].build(), inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dit", "sdxl"])
def test_a_graph_traced_without_weights_runs_once_they_are_loaded(name: str) -> None:
    family = FAMILIES[name]
    graph = trace(family.build(device="meta"), family.example(device="meta"))
    weights = family.build()
    graph.model.load_state_dict(weights.state_dict(), assign=True)
    for path, buffer in weights.named_buffers():
        owner, _, attribute = path.rpartition(".")
        setattr(graph.model.get_submodule(owner), attribute, buffer)
    graph.verify(family.example(batch=2))
    assert graph.variants == 1


def test_a_weight_that_is_computed_when_it_is_read_is_no_part_of_the_graph() -> None:
    class Computed(nn.Linear):
        codes: torch.Tensor

        @property
        def weight(self) -> torch.Tensor:  # type: ignore[override]
            return torch.ones(4, 4) * self.codes

    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            codes = self.linear.weight.detach()
            del self.linear.weight
            self.linear.__class__ = Computed
            self.linear.register_buffer("codes", codes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.linear(x.to(self.linear.weight.dtype))
            return found

    model = Reading()
    read = Computed.weight
    graph = trace(model, {"x": torch.ones(2, 4, dtype=torch.float64)})
    assert Computed.weight is read
    assert torch.equal(graph(torch.ones(3, 4, dtype=torch.float64)), model(torch.ones(3, 4, dtype=torch.float64)))
    assert not [node for node in graph.fx.nodes if node.op == "call_function" and "ones" in str(node.target)]
