"""The graph as a stand-in for its model: calls, installation, replacement, copies, verification."""

import copy
import inspect
from typing import Any, cast

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline
from torch import nn

from q2.errors import Q2Error, TraceError
from q2.graph import Graph, trace
from tests.graph.tiny import FAMILIES, Inputs

DIT = FAMILIES["dit"]


@pytest.fixture
def inputs() -> Inputs:
    return DIT.example(batch=2)


@pytest.fixture
def dit(inputs: Inputs) -> Graph:
    return trace(DIT.build(), inputs)


def test_return_dict_gives_the_models_own_types(dit: Graph, inputs: Inputs) -> None:
    own, traced = dit.model(**inputs), dit(**inputs)
    assert type(traced) is type(own)
    assert torch.equal(traced.sample, own.sample)
    plain = dit(**inputs, return_dict=False)
    assert type(plain) is tuple
    assert torch.equal(plain[0], own.sample)
    assert dit.variants == 1


def test_positional_arguments_and_the_signature_are_the_models(dit: Graph, inputs: Inputs) -> None:
    positional = dit(inputs["hidden_states"], inputs["timestep"], inputs["class_labels"]).sample
    assert torch.equal(positional, dit(**inputs).sample)
    assert inspect.signature(dit) == inspect.signature(dit.model.forward)
    with pytest.raises(TypeError, match="hidden_states"):
        dit()


def test_gradients_flow_as_in_eager(inputs: Inputs) -> None:
    graph = trace(DIT.build().requires_grad_(True), inputs)
    weight = graph.weight_layers["proj_out_2"].module.weight
    graph(**inputs).sample.square().sum().backward()
    traced = weight.grad.clone()  # type: ignore[union-attr, operator]
    graph.model.zero_grad()
    type(graph.model).forward(graph.model, **inputs).sample.square().sum().backward()
    assert torch.equal(traced, weight.grad)  # type: ignore[arg-type]


def test_installed_the_model_executes_the_graph_and_hooks_fire(dit: Graph, inputs: Inputs) -> None:
    model, calls = dit.model, []
    keys, config, dtype = list(model.state_dict()), model.config, model.dtype
    layer = dit.weight_layers["transformer_blocks.0.attn1.to_q"].module
    hook = layer.register_forward_hook(lambda module, args, output: calls.append("layer"))
    model.register_forward_pre_hook(lambda module, args: calls.append("model"))
    block = model.get_submodule("transformer_blocks.0")
    block.register_forward_hook(lambda module, args, output: calls.append("eager"))
    with dit.installed() as installed:
        assert installed is model
        assert dit.is_installed
        model(**inputs)
        assert calls == ["model", "layer"]
        assert (list(model.state_dict()), model.config, model.dtype) == (keys, config, dtype)
        assert inspect.signature(model.forward) == inspect.signature(dit)
        dit.verify()
    hook.remove()
    calls.clear()
    model(**inputs)
    assert calls == ["model", "eager"]
    assert "forward" not in vars(model)


def test_a_pipeline_runs_the_installed_graph(dit: Graph) -> None:
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=4, layers_per_block=1)
    pipeline: Any = DiTPipeline(transformer=dit.model, vae=vae, scheduler=DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)

    def sample() -> torch.Tensor:
        seed = torch.Generator().manual_seed(0)
        steps = {"num_inference_steps": 3, "guidance_scale": 1.0, "output_type": "np"}
        return torch.from_numpy(pipeline([1], generator=seed, **steps).images)

    eager = sample()
    ran = []
    dit.weight_layers["proj_out_2"].module.register_forward_hook(lambda *_: ran.append(1))
    with dit.installed():
        assert torch.equal(sample(), eager)
    assert len(ran) == 3
    assert dit.variants == 1


def test_install_refuses_a_forward_that_something_else_replaced(dit: Graph, inputs: Inputs) -> None:
    other = trace(dit.model, inputs)
    dit.install()
    dit.install()
    with pytest.raises(Q2Error, match="already replaced by a Graph"):
        other.install()
    other.uninstall()
    assert dit.is_installed
    dit.uninstall()
    assert not dit.is_installed


def test_replace_is_seen_by_all_variants(dit: Graph, inputs: Inputs) -> None:
    name, larger = "transformer_blocks.1.ff.net.2", DIT.example(size=12)
    dit(**larger)
    assert dit.variants == 2
    before = dit(**inputs).sample, dit(**larger).sample
    old = dit.weight_layers[name]
    new = copy.deepcopy(old.module)
    nn.init.normal_(new.weight)  # type: ignore[arg-type]
    dit.replace(name, new)
    assert dit.model.get_submodule(name) is new
    assert old.module is new
    dit.verify()
    dit.verify(larger)
    assert dit.variants == 2
    assert not torch.equal(dit(**inputs).sample, before[0])
    assert not torch.equal(dit(**larger).sample, before[1])


class Rounded(nn.Module):
    """No nn.Linear, but in the place of one."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x).round(decimals=2)  # type: ignore[no-any-return]


def test_a_replaced_weight_layer_stays_one_also_in_later_traces(dit: Graph) -> None:
    layers, macs = list(dit.weight_layers), dit.macs
    for name, layer in dit.weight_layers.items():
        dit.replace(name, Rounded(layer.module))
    assert list(dit.weight_layers) == layers
    assert dit.macs == macs
    assert dit.weight_layers["proj_out_1"].type == "Linear"
    dit.verify(DIT.example(size=12))
    assert dit.variants == 2
    assert dit._variants[1].leaf_names == dit._variants[0].leaf_names


def test_replace_names_the_nearest_module_and_refuses_what_is_no_node(dit: Graph) -> None:
    with pytest.raises(
        Q2Error, match=r"'transformer_blocks.0.attn1.to_w'.*did you mean 'transformer_blocks.0.attn1.to_"
    ):
        dit.replace("transformer_blocks.0.attn1.to_w", nn.Linear(1, 1))
    with pytest.raises(Q2Error, match="'transformer_blocks.0.attn1'.*its forward is part of the graph"):
        dit.replace("transformer_blocks.0.attn1", nn.Linear(1, 1))


def test_copies_are_independent(dit: Graph, inputs: Inputs) -> None:
    before = dit(**inputs).sample
    twin = copy.deepcopy(dit)
    model = copy.deepcopy(dit.model)
    nn.init.zeros_(twin.weight_layers["proj_out_2"].module.weight)  # type: ignore[arg-type]
    assert twin.model is not dit.model
    twin.verify()
    twin.lint()
    assert torch.equal(dit(**inputs).sample, before)
    assert torch.equal(model(**inputs).sample, before)
    assert not torch.equal(twin(**inputs).sample, before)


def test_a_copy_of_an_installed_model_executes_a_copied_graph(dit: Graph, inputs: Inputs) -> None:
    with dit.installed():
        model = copy.deepcopy(dit.model)
    assert model.forward is not dit
    assert cast("Graph", model.forward).model is model
    with torch.no_grad():
        assert torch.equal(model(**inputs).sample, dit.model(**inputs).sample)


def test_verify_catches_an_edit_that_changes_the_output(dit: Graph) -> None:
    node = next(node for node in dit.fx.nodes if node.target == "transformer_blocks.0.attn1.to_k")
    node.target = "transformer_blocks.1.attn1.to_k"
    with pytest.raises(TraceError, match="output 0 differs from eager by"):
        dit.verify()


def test_verify_catches_a_missing_target_and_a_node_out_of_place(dit: Graph) -> None:
    node = next(node for node in dit.fx.nodes if node.op == "call_module")
    target, node.target = node.target, "transformer_blocks.7.attn1.to_k"
    with pytest.raises(TraceError, match="references nonexistent attribute"):
        dit.verify()
    node.target = target
    dit.verify()
    next(iter(dit.fx.nodes)).prepend(node)
    with pytest.raises(TraceError, match="used before it has been defined"):
        dit.verify()


def test_a_rewrite_is_executed_in_every_variant_and_leaves_the_graph_as_it_was(dit: Graph, inputs: Inputs) -> None:
    def doubled(model: nn.Module, graph: torch.fx.Graph) -> None:
        node = next(node for node in graph.nodes if node.target == "proj_out_2")
        with graph.inserting_after(node):
            twice = graph.call_function(torch.mul, (node, 2))
        node.replace_all_uses_with(twice, delete_user_cb=lambda user: user is not twice)

    before, plain = str(dit.fx), dit(**inputs).sample
    dit.rewrite("double", doubled)
    assert torch.equal(dit(**inputs).sample, 2 * plain)
    assert (str(dit.fx), list(dit.rewrites)) == (before, ["double"])
    dit.verify()
    half = {**inputs, "hidden_states": inputs["hidden_states"].bfloat16()}
    dit.model.to(torch.bfloat16)
    assert torch.equal(dit(**half).sample, 2 * dit.model(**half).sample)
    assert dit.variants == 2
    dit.rewrite("double", None)
    assert torch.equal(dit(**half).sample, dit.model(**half).sample)


def test_another_dtype_is_another_variant(dit: Graph, inputs: Inputs) -> None:
    dit.model.to(torch.bfloat16)
    half = {**inputs, "hidden_states": inputs["hidden_states"].bfloat16()}
    dit.verify(half)
    assert dit.variants == 2
    assert dit(**half).sample.dtype == torch.bfloat16


def test_placeholder_values_feed_an_interpreter(inputs: Inputs) -> None:
    family = FAMILIES["sdxl"]
    call = family.example()
    graph = trace(family.build(), call)
    with torch.no_grad():
        result = torch.fx.Interpreter(graph.model, graph=graph.fx).run(*graph.placeholder_values(**call))
        assert torch.equal(result[0], graph(**call).sample)
    with pytest.raises(TraceError, match="another structure"):
        graph.placeholder_values(**{**call, "encoder_attention_mask": torch.ones(1, 9)})
