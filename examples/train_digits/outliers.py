"""Give a trained denoiser the outlier channels that large transformers grow, without changing what it computes.

A modulated norm and the layers that read it can trade a factor for every channel: the modulation's rows are multiplied
by it, the readers' columns divided. The function is the same up to rounding; the weights are heavy-tailed within every
output channel, as those of large models are, and a quantizer with few evenly spaced levels feels it.
"""

from __future__ import annotations

import torch
from diffusers import DiTTransformer2DModel, SD3Transformer2DModel, Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

__all__ = ["spread_attention", "spread_channels", "spread_joint", "spread_resblocks"]


@torch.no_grad()
def spread_channels(model: DiTTransformer2DModel, sigma: float, seed: int = 0) -> None:
    """Rescale channels in place by log-normal factors of deviation `sigma`."""
    generator = torch.Generator().manual_seed(seed)

    def factors() -> Tensor:
        return torch.exp(sigma * torch.randn(model.inner_dim, generator=generator))

    for block in model.transformer_blocks:
        attention, modulation = block.attn1, block.norm1.linear  # its chunks: shift, scale, gate; then those of the MLP
        _trade(modulation, 0, 1, factors(), attention.to_q, attention.to_k, attention.to_v)
        _trade(modulation, 3, 4, factors(), block.ff.net[0].proj)
        value = factors()
        attention.to_v.weight.mul_(value[:, None])
        attention.to_v.bias.mul_(value)
        attention.to_out[0].weight.div_(value)
    _trade(model.proj_out_1, 0, 1, factors(), model.proj_out_2)


@torch.no_grad()
def spread_joint(model: SD3Transformer2DModel, sigma: float, seed: int = 0) -> None:
    """Rescale channels in place by log-normal factors of deviation `sigma`, on the image's side and on the text's."""
    generator = torch.Generator().manual_seed(seed)

    def factors() -> Tensor:
        return torch.exp(sigma * torch.randn(model.inner_dim, generator=generator))

    for block in model.transformer_blocks:
        attention, modulation = block.attn, block.norm1.linear
        _trade(modulation, 0, 1, factors(), attention.to_q, attention.to_k, attention.to_v)
        _trade(modulation, 3, 4, factors(), block.ff.net[0].proj)
        readers = attention.add_q_proj, attention.add_k_proj, attention.add_v_proj
        modulation = block.norm1_context.linear
        if block.context_pre_only:  # the text's last norm: its scale comes before its shift
            _trade(modulation, 1, 0, factors(), *readers)
        else:
            _trade(modulation, 0, 1, factors(), *readers)
            _trade(modulation, 3, 4, factors(), block.ff_context.net[0].proj)
        outputs = [attention.to_out[0], *([] if block.context_pre_only else [attention.to_add_out])]
        value = factors()  # both sides' values are mixed, so they share the factors
        for writer in (attention.to_v, attention.add_v_proj):
            writer.weight.mul_(value[:, None])
            writer.bias.mul_(value)
        for reader in outputs:
            reader.weight.div_(value)
    _trade(model.norm_out.linear, 1, 0, factors(), model.proj_out)


def _trade(modulation: nn.Linear, shift: int, scale: int, factor: Tensor, *readers: nn.Linear) -> None:
    """Multiply ``norm(x) * (1 + scale) + shift`` by `factor`, and divide the readers' columns by it."""
    width = len(factor)
    rows = [slice(chunk * width, (chunk + 1) * width) for chunk in (shift, scale)]
    for part in rows:
        modulation.weight[part] *= factor[:, None]
    modulation.bias[rows[0]] *= factor
    modulation.bias[rows[1]] = (1 + modulation.bias[rows[1]]) * factor - 1
    for reader in readers:
        reader.weight.div_(factor)


@torch.no_grad()
def spread_attention(model: UNet2DConditionModel, sigma: float, seed: int = 0) -> None:
    """Rescale channels between every norm of the U-Net's transformers and its readers, and between value and output."""
    generator = torch.Generator().manual_seed(seed)

    def factors(width: int) -> Tensor:
        return torch.exp(sigma * torch.randn(width, generator=generator))

    for module in model.modules():
        if isinstance(module, Transformer2DModel):
            _trade_norm(module.norm, factors(module.norm.num_channels), module.proj_in)
        if not isinstance(module, BasicTransformerBlock):
            continue
        factor = factors(module.norm1.weight.numel())
        _trade_norm(module.norm1, factor, module.attn1.to_q, module.attn1.to_k, module.attn1.to_v)
        _trade_norm(module.norm2, factors(len(factor)), module.attn2.to_q)
        _trade_norm(module.norm3, factors(len(factor)), module.ff.net[0].proj)
        for attention in (module.attn1, module.attn2):
            _trade_rows(attention.to_v, factors(attention.to_v.out_features), attention.to_out[0])
        inner = module.ff.net[2]
        _trade_rows(module.ff.net[0].proj, factors(inner.in_features), inner)


def _trade_norm(norm: nn.LayerNorm | nn.GroupNorm, factor: Tensor, *readers: nn.Linear) -> None:
    """Multiply the norm's channels by `factor`, and divide the readers' columns by it."""
    norm.weight.mul_(factor)
    norm.bias.mul_(factor)
    for reader in readers:
        reader.weight.div_(factor)


def _trade_rows(writer: nn.Linear, factor: Tensor, reader: nn.Linear) -> None:
    """Multiply the writer's first rows by `factor`, and divide the reader's columns by it."""
    writer.weight[: len(factor)].mul_(factor[:, None])
    if writer.bias is not None:
        writer.bias[: len(factor)].mul_(factor)
    reader.weight.div_(factor)


@torch.no_grad()
def spread_resblocks(model: UNet2DConditionModel, sigma: float, seed: int = 0) -> None:
    """Trade factors between an untrained ResBlock's norms and convolutions; training starts from there.

    A SiLU stands between the two, so the function changes: this is done before training, never after.
    """
    generator = torch.Generator().manual_seed(seed)
    for block in model.modules():
        if isinstance(block, ResnetBlock2D):
            for norm, reader in ((block.norm1, block.conv1), (block.norm2, block.conv2)):
                factor = torch.exp(sigma * torch.randn(norm.num_channels, generator=generator))
                norm.weight.mul_(factor)
                reader.weight.div_(factor[:, None, None])
