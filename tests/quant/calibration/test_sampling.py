"""A sample is uniform, without replacement, the same everywhere, and never takes more than what stays."""

from collections import Counter
from itertools import combinations

import torch
from torch import Tensor

from q2.quant.calibration.sampling import Sample


def drawn(size: int, seed: str, calls: tuple[int, ...]) -> list[int]:
    sample, start = Sample(size, seed), 0
    for count in calls:
        sample.offer(count, lambda rows, start=start: (rows + start)[:, None])  # type: ignore[misc]
        start += count
    values = sample.values()
    assert sample.seen == start
    return [] if values is None else values[:, 0].tolist()


def test_every_set_of_rows_is_equally_likely() -> None:
    seeds, alone, pairs = 3000, Counter[int](), Counter[tuple[int, int]]()
    for seed in range(seeds):
        chosen = drawn(3, str(seed), (4, 1, 0, 5))
        assert len(set(chosen)) == 3
        assert chosen == sorted(chosen)
        alone.update(chosen)
        pairs.update(combinations(chosen, 2))
    assert set(alone) == set(range(10))
    assert max(abs(count / seeds - 3 / 10) for count in alone.values()) < 4.5 * (0.3 * 0.7 / seeds) ** 0.5
    assert len(pairs) == 45
    assert max(abs(count / seeds - 3 / 45) for count in pairs.values()) < 4.5 * (1 / 15 * 14 / 15 / seeds) ** 0.5


def test_the_seed_decides_and_nothing_else() -> None:
    calls = (100, 7, 300)
    torch.manual_seed(1)
    first = drawn(20, "0 3 layer", calls)
    torch.manual_seed(2)
    assert drawn(20, "0 3 layer", calls) == first
    assert drawn(20, "0 4 layer", calls) != first
    keys = torch.randint(2**62, (407,), generator=torch.Generator().manual_seed(5829389011336129517))
    assert first == keys.argsort()[:20].sort().values.tolist()
    assert first[:10] == [23, 26, 36, 39, 44, 57, 98, 106, 158, 173]


def test_fewer_rows_than_wanted_are_all_kept_in_order() -> None:
    assert drawn(50, "a", (3, 0, 4)) == list(range(7))
    assert drawn(7, "a", (3, 4)) == list(range(7))
    assert drawn(5, "a", ()) == []
    assert drawn(0, "a", (3, 4)) == []


def test_only_what_stays_is_taken() -> None:
    asked: list[int] = []

    def take(rows: Tensor) -> Tensor:
        asked.append(len(rows))
        return torch.zeros(len(rows), 8, dtype=torch.bfloat16)

    sample = Sample(32, "b")
    for _ in range(50):
        sample.offer(1000, take)
    assert max(asked) <= 32
    assert sum(asked) < 32 * 10  # 32 * (1 + ln 50) is expected
    values = sample.values()
    assert values is not None
    assert (values.shape, values.dtype) == ((32, 8), torch.bfloat16)
