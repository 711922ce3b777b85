"""Writes a Stable Diffusion XL as one file, in the layout of its authors, as most fine-tunes are."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_WHOLE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_names(unet: Any) -> dict[str, str]:
    """Return the original name of every tensor of an SDXL's U-Net."""
    layers, blocks = unet.config.layers_per_block, len(unet.config.block_out_channels)
    places: dict[str, str] = dict(_WHOLE)
    for block in range(blocks):
        for layer in range(layers):
            place = block * (layers + 1) + layer + 1
            places[f"down_blocks.{block}.resnets.{layer}"] = f"input_blocks.{place}.0"
            places[f"down_blocks.{block}.attentions.{layer}"] = f"input_blocks.{place}.1"
        places[f"down_blocks.{block}.downsamplers.0.conv"] = f"input_blocks.{(block + 1) * (layers + 1)}.0.op"
        for layer in range(layers + 1):
            place = block * (layers + 1) + layer
            places[f"up_blocks.{block}.resnets.{layer}"] = f"output_blocks.{place}.0"
            places[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks.{place}.1"
        last = 2 if hasattr(unet.up_blocks[block], "attentions") else 1
        places[f"up_blocks.{block}.upsamplers.0.conv"] = f"output_blocks.{(block + 1) * (layers + 1) - 1}.{last}.conv"
    places |= {"mid_block.resnets.0": "middle_block.0", "mid_block.resnets.1": "middle_block.2"}
    places["mid_block.attentions.0"] = "middle_block.1"
    return {name: _renamed(name, places, _RESNET) for name in unet.state_dict()}


def vae_names(vae: Any) -> dict[str, str]:
    """Return the original name of every tensor of an autoencoder."""
    blocks, layers = len(vae.config.block_out_channels), vae.config.layers_per_block
    places = {f"{side}.conv_norm_out": f"{side}.norm_out" for side in ("encoder", "decoder")}
    for block in range(blocks):
        for layer in range(layers + 1):
            places[f"encoder.down_blocks.{block}.resnets.{layer}"] = f"encoder.down.{block}.block.{layer}"
            places[f"decoder.up_blocks.{block}.resnets.{layer}"] = f"decoder.up.{blocks - 1 - block}.block.{layer}"
        places[f"encoder.down_blocks.{block}.downsamplers.0"] = f"encoder.down.{block}.downsample"
        places[f"decoder.up_blocks.{block}.upsamplers.0"] = f"decoder.up.{blocks - 1 - block}.upsample"
    for side in ("encoder", "decoder"):
        places[f"{side}.mid_block.attentions.0"] = f"{side}.mid.attn_1"
        places |= {f"{side}.mid_block.resnets.{i}": f"{side}.mid.block_{i + 1}" for i in range(2)}
    names = {name: _renamed(name, places, {"conv_shortcut": "nin_shortcut"}) for name in vae.state_dict()}
    return {name: _attention(each) if ".attn_1." in each else each for name, each in names.items()}


def write_single(pipeline: Any, path: Path, *, vae: bool = True, leave_out: str = "") -> None:
    """Write U-Net and autoencoder into one file; `leave_out` is a tensor of the U-Net."""
    state = pipeline.unet.state_dict()
    tensors = {f"model.diffusion_model.{new}": state[old] for old, new in unet_names(pipeline.unet).items()}
    if leave_out:
        del tensors[f"model.diffusion_model.{unet_names(pipeline.unet)[leave_out]}"]
    if vae:
        held = pipeline.vae.state_dict()
        tensors |= {f"first_stage_model.{new}": _conv(new, held[old]) for old, new in vae_names(pipeline.vae).items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def kohya(layers: Mapping[str, tuple[Tensor, Tensor]], alpha: float) -> dict[str, Tensor]:
    """Return a LoRA's factors, down and up by the layers of a U-Net, as kohya's trainer names them."""
    from torch import tensor

    made: dict[str, Tensor] = {}
    for name, (down, up) in layers.items():
        head = "lora_unet_" + name.replace(".", "_")
        made |= {f"{head}.lora_down.weight": down, f"{head}.lora_up.weight": up, f"{head}.alpha": tensor(alpha)}
    return made


def _renamed(name: str, places: Mapping[str, str], inside: Mapping[str, str]) -> str:
    head = max((each for each in places if name.startswith(f"{each}.")), key=len, default="")
    rest = name.removeprefix(head)
    if "resnets" in head:
        for old, new in inside.items():
            rest = re.sub(rf"^\.{old}\.", f".{new}.", rest)
    return places.get(head, "") + rest


def _attention(name: str) -> str:
    for old, new in _ATTENTION.items():
        name = name.replace(f".attn_1.{old}.", f".attn_1.{new}.")
    return name


def _conv(name: str, tensor: Tensor) -> Tensor:
    return tensor[..., None, None] if ".attn_1." in name and tensor.ndim == 2 else tensor
