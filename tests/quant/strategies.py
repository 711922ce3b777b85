"""Small weights of every kind for property tests: ties, constant and zero rows, and ordinary numbers."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
relaxed = settings(deadline=None, max_examples=40, derandomize=True)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@st.composite
def weights(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES, columns: int = 12) -> Tensor:
    shape = draw(st.integers(1, 4)), draw(st.integers(1, columns))
    few = st.sampled_from([0.0, -0.0, 0.25, -1.5, 3.0])
    number = draw(st.sampled_from([few, st.floats(-8, 8, width=16)]))
    rows = draw(st.lists(st.lists(number, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]))
    return torch.tensor(rows).to(draw(st.sampled_from(dtypes)))
