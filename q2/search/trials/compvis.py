"""Layers of Stable Diffusion v1.5: diffusers' names for the CompVis names, in which the reference code keeps them."""

import re

__all__ = ["to_diffusers"]

_TOP = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def to_diffusers(path: str) -> str:
    """Return diffusers' name of a layer; a path that is no CompVis name stays as it is.

    >>> to_diffusers("output_blocks.3.1.transformer_blocks.0.attn2.to_q")
    'up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q'
    >>> to_diffusers("input_blocks.3.0.op"), to_diffusers("output_blocks.2.1.conv")
    ('down_blocks.0.downsamplers.0.conv', 'up_blocks.0.upsamplers.0.conv')
    """
    block = next((old for old in _TOP if path == old or path.startswith(f"{old}.")), None)
    if block is not None:
        return _inside(_TOP[block], path[len(block) + 1 :])
    match = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)", path)
    if match is None:
        return path
    side, number, rest = match[1], int(match[2]) - (match[1] == "input"), match[4]
    place = f"{'down' if side == 'input' else 'up'}_blocks.{number // 3}"
    if rest in ("op", "conv"):
        return f"{place}.{'down' if side == 'input' else 'up'}samplers.0.conv"
    return _inside(f"{place}.{'resnets' if match[3] == '0' else 'attentions'}.{number % 3}", rest)


def _inside(block: str, rest: str) -> str:
    return f"{block}.{_RESNET.get(rest, rest)}" if rest else block
