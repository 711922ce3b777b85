"""Life after saving: packed pipelines take what plain ones take, and give what the simulated ones give."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

import q2
from q2.denoisers import Denoiser, load
from q2.denoisers.saving.save import save_packed
from q2.errors import CheckpointError, Q2Error
from q2.exporters.dequantized import Dequantized
from q2.passes.transform.quantize import Quantize
from q2.quant.packed.layers import Packed

LAYERS = ["to_q", "to_v", "proj_in"]


@pytest.fixture(scope="module")
def simulated() -> Denoiser:
    """digits-sdxl, its layers simulated."""
    denoiser = load("digits-sdxl", device="cpu")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    q2.run_passes(graph, [Quantize(by="regex", rules={"attn2": "kmeans-a-3"}, default="uaq-4")], denoiser=denoiser)
    return denoiser


@pytest.fixture(scope="module")
def folder(simulated: Denoiser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder it was saved into."""
    place = tmp_path_factory.mktemp("after") / "packed"
    save_packed(simulated, place)
    return place


def loaded(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: Any) -> npt.NDArray[np.float32]:
    noise = torch.Generator().manual_seed(0)
    made = pipeline("a photo of the digit seven", num_inference_steps=2, generator=noise, output_type="np")
    images: npt.NDArray[np.float32] = made.images
    return images


def forward(unet: Any, **more: Any) -> Tensor:
    inputs = dict(load("digits-sdxl", weights="meta").example_inputs())
    made = torch.Generator().manual_seed(1)
    shapes = {name: tuple(value.shape) for name, value in inputs.items() if isinstance(value, Tensor)}
    given: dict[str, Any] = {name: torch.randn(shape, generator=made) for name, shape in shapes.items()}
    added = {name: torch.randn(tuple(t.shape), generator=made) for name, t in inputs["added_cond_kwargs"].items()}  # type: ignore[attr-defined]
    given |= {"timestep": torch.tensor(500), "added_cond_kwargs": added | more.pop("added", {})}
    with torch.no_grad():
        sample: Tensor = unet(**given, **more).sample
    return sample


def adapted(pipeline: Any, seed: int = 0) -> Any:
    from peft import LoraConfig

    torch.manual_seed(seed)
    pipeline.unet.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=LAYERS, init_lora_weights=False))
    return pipeline


def test_a_lora_gives_what_it_gives_on_the_simulated_pipeline(simulated: Denoiser, folder: Path) -> None:
    theirs = adapted(copy.deepcopy(simulated.pipeline()))
    assert np.array_equal(draw(adapted(loaded(folder))), draw(theirs))
    assert not np.array_equal(draw(theirs), draw(simulated.pipeline()))


def test_a_fused_lora_is_kept_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    plain = loaded(folder)
    plain.unet.dequantize()
    expected = adapted(plain)
    expected.fuse_lora()
    pipeline = adapted(loaded(folder))
    before = pipeline.unet.get_memory_footprint()
    pipeline.fuse_lora()
    images = draw(pipeline)
    assert np.array_equal(images, draw(expected))
    assert pipeline.unet.get_memory_footprint() > before
    pipeline.unload_lora_weights()
    assert np.array_equal(images, draw(pipeline))
    pipeline.save_pretrained(tmp_path / "fused")
    assert np.array_equal(images, draw(loaded(tmp_path / "fused")))
    layers = json.loads((tmp_path / "fused/unet/config.json").read_text())["quantization_config"]["layers"]
    assert {layers[name] for name in layers if name.endswith("to_q")} == {"none"}
    assert {layers[name] for name in layers if name.endswith("to_k")} == {"uaq-4", "kmeans-a-3"}


def test_an_adapter_that_is_attached_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    pipeline = adapted(loaded(folder))
    with pytest.raises(Q2Error, match=r"proj_in: an adapter is attached to the packed layer; fuse_lora\(\) and"):
        pipeline.unet.save_pretrained(tmp_path / "unet")
    assert not (tmp_path / "unet").exists()
    denoiser = load("digits-sdxl", device="cpu")
    adapted(denoiser.pipeline())
    with pytest.raises(
        Q2Error, match="an adapter is attached; fuse it and quantize again, or unload it, before saving"
    ):
        save_packed(denoiser, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_controlnet_residuals_are_added_as_before(simulated: Denoiser, folder: Path) -> None:
    made = torch.Generator().manual_seed(2)
    unet: Any = simulated.model
    shapes: list[tuple[int, ...]] = []
    hooks = [
        each.register_forward_hook(lambda _m, _i, out: shapes.extend(t.shape for t in out[1]))
        for each in unet.down_blocks
    ]
    hooks.append(unet.conv_in.register_forward_hook(lambda _m, _i, out: shapes.append(out.shape)))
    hooks.append(unet.mid_block.register_forward_hook(lambda _m, _i, out: shapes.append(out.shape)))
    plain = forward(unet)
    for hook in hooks:
        hook.remove()
    *down, mid = [0.1 * torch.randn(shape, generator=made) for shape in shapes]
    given = {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": mid}
    assert torch.equal(forward(loaded(folder).unet, **given), forward(unet, **given))
    assert not torch.equal(forward(unet, **given), plain)


def test_an_ip_adapters_layers_are_put_in(simulated: Denoiser, folder: Path) -> None:
    from diffusers.models.embeddings import ImageProjection

    wide = int(simulated.model.config.cross_attention_dim)  # type: ignore[union-attr, arg-type]
    torch.manual_seed(3)
    state: dict[str, Any] = {"image_proj": {}, "ip_adapter": {}}
    projection = ImageProjection(cross_attention_dim=wide, image_embed_dim=wide, num_image_text_embeds=4).state_dict()
    state["image_proj"] = {name.replace("image_embeds", "proj"): tensor for name, tensor in projection.items()}
    number = 1
    for name in simulated.model.attn_processors:  # type: ignore[union-attr]
        if name.endswith("attn2.processor"):
            attention: Any = simulated.model.get_submodule(name.removesuffix(".processor"))
            hidden = int(attention.to_q.out_features)
            for kind in ("to_k_ip", "to_v_ip"):
                state["ip_adapter"][f"{number}.{kind}.weight"] = torch.randn(hidden, wide) * 0.1
            number += 2
    models = [copy.deepcopy(simulated.model), loaded(folder).unet]
    image = {"image_embeds": torch.randn(1, 1, wide)}
    outputs = []
    for model in models:
        model._load_ip_adapter_weights([copy.deepcopy(state)])
        outputs.append(forward(model, added=image))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], forward(simulated.model))


def test_fused_projections_compute_the_same(folder: Path) -> None:
    pipeline = loaded(folder)
    before = draw(pipeline)
    pipeline.unet.fuse_qkv_projections()
    assert np.allclose(draw(pipeline), before, atol=1e-5)
    pipeline.unet.unfuse_qkv_projections()
    assert np.array_equal(draw(pipeline), before)


def test_channels_last_and_casts_move_what_is_plain_and_leave_codes(folder: Path) -> None:
    pipeline = loaded(folder)
    before = draw(pipeline)
    pipeline.unet.to(memory_format=torch.channels_last)
    assert np.allclose(draw(pipeline), before, atol=1e-3)
    layer = next(module for module in pipeline.unet.modules() if isinstance(module, Packed))
    codes = layer.held(0)
    pipeline.unet.half()
    assert pipeline.unet.dtype == layer.weight.dtype == torch.float16
    pipeline.unet.to(torch.float32)
    assert np.allclose(draw(pipeline), before, atol=1e-3)
    assert all(torch.equal(tensor, codes[name]) for name, tensor in layer.held(0).items())


def test_it_compiles(folder: Path) -> None:
    block = loaded(folder).unet.mid_block.attentions[0].transformer_blocks[0]
    compiled: Any = torch.compile(block, backend="aot_eager", fullgraph=True)
    hidden, text = torch.randn(1, 4, 128), torch.randn(1, 12, 128)
    with torch.no_grad():
        expected = block(hidden, encoder_hidden_states=text)
        assert torch.allclose(compiled(hidden, encoder_hidden_states=text), expected, atol=1e-5)


def test_sequential_offload_leaves_nothing_on_the_device(folder: Path) -> None:
    from accelerate import cpu_offload

    pipeline = loaded(folder)
    before, unet = draw(pipeline), pipeline.unet
    cpu_offload(unet, torch.device("cpu"), offload_buffers=len(unet._parameters) > 0)  # as diffusers calls it
    held = [*unet.buffers(), *unet.parameters()]
    assert sum(tensor.nbytes for tensor in held if tensor.device.type != "meta") == 0
    assert np.array_equal(draw(pipeline), before)


def test_parameters_and_bytes_are_counted_as_they_are(simulated: Denoiser, folder: Path) -> None:
    unet, plain = loaded(folder).unet, load("digits-sdxl", device="cpu").model
    total = sum(parameter.numel() for parameter in plain.parameters())
    assert unet.num_parameters() == total == plain.num_parameters()  # type: ignore[operator]
    assert copy.deepcopy(unet).num_parameters() == total
    packed = sum(module.bytes for module in unet.modules() if isinstance(module, Packed))
    rest = sum(parameter.nbytes for parameter in unet.parameters())
    assert unet.get_memory_footprint() == packed + rest
    unet.dequantize()
    assert unet.num_parameters() == total
    assert unet.get_memory_footprint() == plain.get_memory_footprint()  # type: ignore[operator]


def test_what_is_dequantized_and_saved_is_loaded_without_q2(simulated: Denoiser, folder: Path, tmp_path: Path) -> None:
    pipeline = loaded(folder)
    pipeline.unet.dequantize()
    pipeline.save_pretrained(tmp_path / "plain")
    assert "quantization_config" not in json.loads((tmp_path / "plain/unet/config.json").read_text())
    back = loaded(tmp_path / "plain")
    assert not any(isinstance(module, Packed) for module in back.unet.modules())
    assert np.array_equal(draw(back), draw(simulated.pipeline()))


PLAIN = """
import sys
import torch
from diffusers import DiffusionPipeline
kinds = []
for options in ({}, {"torch_dtype": torch.float16}):
    pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], **options)
    kinds.append(sorted({str(part.dtype) for part in pipeline.components.values() if hasattr(part, "dtype")}))
    pipeline("a dog", num_inference_steps=1, output_type="np")
print(kinds, "q2" in sys.modules)
"""


def test_an_export_loads_anywhere_without_arguments(folder: Path, tmp_path: Path) -> None:
    denoiser = load("digits-sdxl", str(folder), device="cpu")
    Dequantized().export(denoiser, tmp_path / "plain")
    command = [sys.executable, "-W", "ignore", "-c", PLAIN, str(tmp_path / "plain")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[['torch.float32'], ['torch.float16']] False"


def shared_block() -> tuple[Any, q2.graph.Graph]:
    """digits-dit with one Linear in two blocks, and one block at two places."""
    denoiser: Any = load("digits-dit", device="cpu")
    blocks = denoiser.model.transformer_blocks
    blocks[1].attn1.to_q = blocks[0].attn1.to_q
    blocks[3] = blocks[2]
    return denoiser, q2.trace(denoiser.model, denoiser.example_inputs())


def test_a_module_at_two_places_is_quantized_at_both_and_saved_once(tmp_path: Path) -> None:
    denoiser, graph = shared_block()
    inputs, blocks = denoiser.example_inputs(2), denoiser.model.transformer_blocks
    q2.run_passes(graph, [Quantize(default="uaq-3")], denoiser=denoiser)
    assert blocks[1].attn1.to_q is blocks[0].attn1.to_q
    assert blocks[3] is blocks[2]
    expected = denoiser.model(**inputs).sample
    assert torch.equal(graph(**inputs).sample, expected)
    save_packed(denoiser, tmp_path / "tied")
    assert torch.equal(denoiser.model(**inputs).sample, expected)
    back: Any = load("digits-dit", str(tmp_path / "tied"), device="cpu").model
    assert torch.equal(back(**inputs).sample, expected)
    assert back.transformer_blocks[3] is back.transformer_blocks[2]
    assert back.transformer_blocks[1].attn1.to_q is back.transformer_blocks[0].attn1.to_q
    back.save_pretrained(tmp_path / "again")
    files = [tmp_path / name / "diffusion_pytorch_model.safetensors" for name in ("tied/transformer", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    plain = back.dequantize()
    assert type(plain.transformer_blocks[1].attn1.to_q) is nn.Linear
    assert plain.transformer_blocks[1].attn1.to_q is plain.transformer_blocks[0].attn1.to_q


def test_a_place_that_the_model_does_not_have_is_one_line(tmp_path: Path) -> None:
    denoiser, graph = shared_block()
    q2.run_passes(graph, [Quantize(default="uaq-3")], denoiser=denoiser)
    save_packed(denoiser, tmp_path / "tied")
    path = tmp_path / "tied/transformer/config.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    for shared, said in (
        (
            {"transformer_blocks.9": "transformer_blocks.0"},
            "the config shares 'transformer_blocks.9' with 'transformer_bl",
        ),
        ({"transformer_blocks.1": 3}, "shared.transformer_blocks.1 is 3, expected the name of a module"),
    ):
        table["quantization_config"]["shared"] = shared
        path.write_text(json.dumps(table), encoding="utf-8")
        with pytest.raises(CheckpointError, match=said):
            _ = load("digits-dit", str(tmp_path / "tied"), device="cpu").model
