"""A model with one layer of every type, small enough to trace in no time."""

import torch
from torch import Tensor, nn

import q2
from q2.graph import Graph


class OneOfEach(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.norm = nn.GroupNorm(2, 4)
        self.row = nn.Conv1d(4, 6, 1)
        self.head = nn.Linear(6, 5)
        self.tail = nn.Linear(5, 3, bias=False)

    def forward(self, sample: Tensor) -> Tensor:
        hidden = self.norm(self.image(sample)).flatten(2)
        result: Tensor = self.tail(self.head(self.row(hidden).transpose(1, 2)))
        return result


def one_of_each(seed: int = 0) -> Graph:
    torch.manual_seed(seed)
    return q2.trace(OneOfEach().eval(), {"sample": torch.randn(1, 2, 4, 4)})
