"""The three jet-tagging networks of MASE's walk-throughs, layer for layer: 16 features to 5 classes."""

from torch import Tensor, nn

__all__ = ["JscNew", "JscThreeLinear", "JscTiny"]


class _Blocks(nn.Module):
    """Layers one after the other, under the name that MASE gives them: ``seq_blocks``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.seq_blocks = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 5) of features (N, 16)."""
        logits: Tensor = self.seq_blocks(x)
        return logits


class JscTiny(_Blocks):
    """BatchNorm, ReLU, Linear(16, 5), ReLU: 80 weights.

    >>> sum(weight.numel() for weight in JscTiny().parameters())
    117
    """

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Linear(16, 5), nn.ReLU(inplace=True))


class JscNew(_Blocks):
    """Three Linear layers, 16 → 8 → 8 → 5, with four BatchNorms and four ReLUs."""

    def __init__(self) -> None:
        super().__init__(
            nn.BatchNorm1d(16),
            nn.ReLU(inplace=True),
            nn.Linear(16, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(inplace=True),
            nn.Linear(8, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(inplace=True),
            nn.Linear(8, 5),
            nn.BatchNorm1d(5),
            nn.ReLU(inplace=True),
        )


class JscThreeLinear(_Blocks):
    """One BatchNorm and three Linear layers, 16 → `width` → `width` → 5; MASE's search doubles the width."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(
            nn.BatchNorm1d(16),
            nn.ReLU(inplace=True),
            nn.Linear(16, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, 5),
            nn.ReLU(inplace=True),
        )
