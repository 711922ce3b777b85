"""A small convolutional network with residuals, for 8×8 digits (after He et al., CVPR'16)."""

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DigitsCnn"]


class _Block(nn.Module):
    """Two 3×3 convolutions with BatchNorms, and a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out)) + self.shortcut(x)
        return F.relu(out)


class DigitsCnn(nn.Module):
    """A stem, two residual blocks, a mean over the image and a Linear layer: images (N, 1, 8, 8) to 10 classes."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.block1 = _Block(width, width, 1)
        self.block2 = _Block(width, 2 * width, 2)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, 1, 8, 8)."""
        x = F.relu(self.norm(self.stem(x)))
        x = self.block2(self.block1(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits
