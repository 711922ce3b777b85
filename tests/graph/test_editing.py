"""Edits of a traced graph: nodes inserted, replaced and removed, with the guards of the trace kept."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import q2
from q2.errors import GuardError, TraceError
from q2.graph import Edit, Graph
from q2.graph.tracing.guards import guards_of


class Branching(nn.Module):
    """Decides on a shape and on a value, reads a dtype, and writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, sample: Tensor, scale: Tensor) -> Tensor:
        hidden = self.first(sample)
        if hidden.shape[0] > 2:
            hidden = hidden * 2
        if bool(scale.sum() > 0):
            hidden = hidden + 1
        hidden = torch.relu(hidden).to(hidden.dtype)
        out: Tensor = self.second(hidden)
        out += sample
        return out


def traced(batch: int = 3) -> Graph:
    torch.manual_seed(0)
    return q2.trace(Branching().eval(), {"sample": torch.randn(batch, 4), "scale": torch.ones(2)})


def named(graph: Graph) -> list[str]:
    return [node.name for node in graph.executed().nodes]


def test_what_is_inserted_is_read_by_all_but_guards_and_the_model_stays_what_it_was() -> None:
    graph, x = traced(), torch.randn(3, 4)
    model = graph.model
    assert isinstance(model, Branching)
    plain = graph(x, torch.ones(2))
    graph.edit("clamp", lambda edit: edit.insert_after(edit.node("first"), torch.clamp, -0.1, 0.1))
    hidden = torch.relu(model.first(x).clamp(-0.1, 0.1) * 2 + 1)
    assert torch.equal(graph(x, torch.ones(2)), model.second(hidden) + x)
    assert torch.equal(model(x, torch.ones(2)), plain)
    graph.verify()
    graph.edit("clamp", None)
    assert torch.equal(graph(x, torch.ones(2)), plain)


def test_the_guards_stay_and_still_send_a_call_to_another_path_which_is_edited_too() -> None:
    graph = traced()
    before = guards_of(graph.fx)
    assert before
    graph.edit("double", lambda edit: edit.insert_after(edit.node("iadd"), torch.mul, 2.0))
    assert guards_of(graph.executed()) == before
    model = graph.model
    assert isinstance(model, Branching)
    x = torch.randn(2, 4)
    assert torch.equal(graph(x, torch.ones(2)), (model.second(torch.relu(model.first(x) + 1)) + x) * 2)
    assert graph.variants == 2
    assert torch.equal(graph(x, -torch.ones(2)), (model.second(torch.relu(model.first(x))) + x) * 2)
    assert graph.variants == 3


def test_guards_go_on_reading_what_was_traced() -> None:
    graph = traced()
    graph.edit("off", lambda edit: edit.insert_after(edit.node("scale"), torch.neg))
    x = torch.randn(3, 4)
    assert torch.equal(graph(x, torch.ones(2)), graph.model(x, torch.ones(2)))
    assert graph.variants == 1


def test_one_argument_of_one_reader() -> None:
    graph, x = traced(), torch.randn(3, 4)
    model = graph.model
    assert isinstance(model, Branching)
    graph.edit("half", lambda edit: edit.insert_before(edit.node("first"), torch.mul, 0.5))
    hidden = torch.relu(model.first(x * 0.5) * 2 + 1)
    assert torch.equal(graph(x, torch.ones(2)), model.second(hidden) + x)  # the other reader of x has it as it is
    with pytest.raises(TraceError, match=r"insert before 'first': its argument 3 is None, no node"):
        graph.edit("half", lambda edit: edit.insert_before(edit.node("first"), torch.mul, 0.5, argument=3))
    assert "mul" in str(named(graph))


def test_a_node_is_replaced_by_a_function_or_by_a_module_of_the_model() -> None:
    graph, x = traced(), torch.randn(3, 4)
    model = graph.model
    assert isinstance(model, Branching)
    graph.edit("smooth", lambda edit: edit.replace(edit.node("relu"), torch.tanh))
    assert torch.equal(graph(x, torch.ones(2)), model.second(torch.tanh(model.first(x) * 2 + 1)) + x)
    graph.edit("smooth", lambda edit: edit.replace(edit.node("relu"), "second"))
    assert torch.equal(graph(x, torch.ones(2)), model.second(model.second(model.first(x) * 2 + 1)) + x)
    with pytest.raises(TraceError, match=r"no module 'secnd' in the model; did you mean 'second'\?"):
        graph.edit("smooth", lambda edit: edit.replace(edit.node("relu"), "secnd"))


def test_a_node_is_removed_and_what_only_it_needed_goes_too() -> None:
    graph, x = traced(), torch.randn(3, 4)
    model = graph.model
    assert isinstance(model, Branching)
    graph.edit("linear", lambda edit: edit.remove(edit.node("relu")))
    assert torch.equal(graph(x, torch.ones(2)), model.second(model.first(x) * 2 + 1) + x)
    assert "relu" not in named(graph)
    assert guards_of(graph.executed()) == guards_of(graph.fx)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda edit: edit.remove(edit.node("guard")), "remove 'guard': it is a guard, which checks what the trace"),
        (lambda edit: edit.replace(edit.node("sample"), torch.neg), "replace 'sample': it is an input of the model"),
        (lambda edit: edit.remove(edit.node("output")), "remove 'output': it is an output of the model"),
        (lambda edit: edit.remove(edit.node("iadd")), "remove 'iadd': it writes to its argument in place"),
        (lambda edit: edit.insert_after(edit.node("second"), torch.neg), "insert after 'second': 'iadd' writes to its"),
        (lambda edit: edit.node("frist"), "no node matches 'frist'; did you mean 'first'?"),
        (lambda edit: edit.node("*", op="reluu"), "no node matches '*' with the operation 'reluu'; did you mean 'relu"),
        (lambda edit: edit.node("*t*"), "'*t*' matches "),
        (lambda edit: edit.remove(edit.node("sum_1")), "remove 'sum_1': its value is float32[], that of 'scale' is"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_at_once_and_leaves_the_graph(what: Callable[[Edit], object], message: str) -> None:
    graph = traced()
    before = named(graph)
    with pytest.raises(TraceError) as caught:
        graph.edit("x", what)
    assert str(caught.value).startswith(message)
    assert named(graph) == before
    assert not graph.rewrites


def test_operations_are_found_by_the_module_that_makes_them() -> None:
    digits = q2.denoiser("digits-dit", weights="meta")
    graph = q2.trace(digits.model, digits.example_inputs())
    edit = Edit(graph.model, graph.fx)
    found = edit.nodes("transformer_blocks.[01].attn1", op="scaled_dot_product_attention")
    assert [node.op for node in found] == ["call_function", "call_function"]
    assert [node.target for node in edit.nodes("*.attn1.to_q")] == [
        f"transformer_blocks.{i}.attn1.to_q" for i in range(4)
    ]


def test_a_bare_rewrite_that_loses_a_guard_is_an_error() -> None:
    graph = traced()

    def lose(_: nn.Module, nodes: torch.fx.Graph) -> None:
        nodes.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))

    graph.rewrite("lose", lose)
    with pytest.raises(TraceError, match=r"graph of Branching: a rewrite lost the guard 'guard'") as caught:
        graph(torch.randn(3, 4), torch.ones(2))
    assert not isinstance(caught.value, GuardError)
