"""Data in three splits, in batches: what a factory returns, checked and cut up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from q2.errors import ConfigError
from q2.models.imported import called, shipped_data
from q2.settings import DataSettings

__all__ = ["SPLITS", "Batch", "Data", "Split", "load_data"]

Split = Literal["train", "validation", "test"]
Batch = tuple[Tensor, Tensor]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_NAMES: Mapping[str, str] = {"val": "validation", "valid": "validation", "dev": "validation"}


@dataclass(frozen=True, eq=False)
class Data:
    """Three data sets of (input, class) pairs, handed out in batches (N, ...), (N,).

    >>> import torch
    >>> data = Data.of((torch.zeros(10, 16), torch.zeros(10, dtype=torch.long)), DataSettings(batch=4))
    >>> [len(x) for x, _ in data.batches("train")], data.count("test")
    ([4, 4], 1)
    """

    splits: Mapping[str, Dataset[Any]]
    batch: int = 128
    workers: int = 0
    name: str = ""

    @classmethod
    def of(cls, given: object, settings: DataSettings, name: str = "") -> "Data":
        """Make data of what a factory returned: tensors (inputs, classes), a data set, or a mapping with the splits.

        What comes unsplit is shuffled by ``settings.seed`` and cut. Raises `ConfigError` for anything else.
        """
        if isinstance(given, Data):
            return given
        if isinstance(given, Mapping):
            named = {str(key): each for key, each in given.items()}
            splits = {_NAMES.get(key, key): _dataset(each, key) for key, each in named.items()}
            missing = [split for split in SPLITS if split not in splits]
            if missing:
                raise ConfigError(f"the data have the splits {', '.join(splits)}, and lack {', '.join(missing)}")
        else:
            splits = _cut(_dataset(given, "the data"), settings)
        return cls(splits, settings.batch, settings.workers, name)

    def count(self, split: Split) -> int:
        """Return how many samples a split has."""
        return len(cast(Any, self.splits[split]))

    def batches(self, split: Split, *, samples: int = 0, shuffle: int | None = None) -> Iterator[Batch]:
        """Yield a split in batches: its first `samples` (0: all), or with a seed in `shuffle` all in random order."""
        dataset = self.splits[split]
        count = min(samples or self.count(split), self.count(split))
        order = torch.arange(count)
        if shuffle is not None:
            order = torch.randperm(self.count(split), generator=torch.Generator().manual_seed(shuffle))[:count]
        if isinstance(dataset, TensorDataset):
            inputs, classes = dataset.tensors
            for chosen in order.split(self.batch):
                yield inputs[chosen], classes[chosen]
            return
        subset = Subset(dataset, cast(Sequence[int], order.tolist()))
        loader: DataLoader[Any] = DataLoader(subset, batch_size=self.batch, num_workers=self.workers)
        for inputs, classes in loader:
            yield inputs, classes

    def first(self, count: int, split: Split = "train") -> Tensor:
        """Return the inputs of the first `count` samples of a split."""
        parts = [inputs for inputs, _ in self.batches(split, samples=count)]
        return torch.cat(parts)


def load_data(settings: DataSettings, default: str = "") -> Data | None:
    """Return the data that a run file names, else those called `default`; None where there are none.

    Raises `ConfigError` for a name that there is not, a factory that fails, and a file that cannot be read.
    """
    if settings.name and settings.factory:
        raise ConfigError(f"name {settings.name!r} and import {settings.factory!r} both say data; leave one out")
    if settings.factory:
        if settings.path:
            raise ConfigError("path: is for the data that q2 ships; give it to a factory in arguments")
        return Data.of(called(settings.factory, settings.arguments), settings, settings.factory)
    name = settings.name or default
    if not name:
        return None
    arguments = {**settings.arguments, **({"path": settings.path} if settings.path else {})}
    return Data.of(called(shipped_data(name), arguments), settings, name)


def _dataset(given: object, what: str) -> Dataset[Any]:
    if isinstance(given, Dataset) and hasattr(given, "__len__"):
        if not len(given):
            raise ConfigError(f"{what}: has no samples")
        return given
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(each, Tensor) for each in given):
        inputs, classes = given
        if len(inputs) != len(classes) or not len(inputs):
            raise ConfigError(f"{what}: {len(inputs)} inputs and {len(classes)} classes, expected as many of both")
        return TensorDataset(inputs, classes)
    found = type(given).__name__
    raise ConfigError(f"{what}: expected tensors (inputs, classes) or a data set with a length, found {found}")


def _cut(dataset: Dataset[Any], settings: DataSettings) -> dict[str, Dataset[Any]]:
    count = len(cast(Any, dataset))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(settings.seed))
    held = [max(1, int(count * share)) for share in (settings.validation, settings.test)]
    if sum(held) >= count:
        raise ConfigError(f"validation and test take {sum(held)} of {count} samples, which leaves none to train on")
    parts = order.split([count - sum(held), *held])
    if isinstance(dataset, TensorDataset):
        chosen = [TensorDataset(*(tensor[part] for tensor in dataset.tensors)) for part in parts]
        return dict(zip(SPLITS, chosen, strict=True))
    return {name: Subset(dataset, part.tolist()) for name, part in zip(SPLITS, parts, strict=True)}
