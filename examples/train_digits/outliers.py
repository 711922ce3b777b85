"""Give a trained DiT the outlier channels that large transformers grow, without changing what it computes.

A modulated norm and the layers that read it can trade a factor for every channel: the modulation's rows are multiplied
by it, the readers' columns divided. The function is the same up to rounding; the weights are heavy-tailed within every
output channel, as those of large models are, and a quantizer with few evenly spaced levels feels it.
"""

from __future__ import annotations

import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, nn

__all__ = ["spread_channels"]


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
