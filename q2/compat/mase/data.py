"""MASE's data modules over q2's data: the synthetic jets, a file of real ones, and the digits."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from q2.compat.mase.models import MaseModelInfo
from q2.errors import ConfigError
from q2.models.data.splits import Batch, Data, Split, load_data
from q2.settings import DataSettings

__all__ = ["DATASETS", "DatasetInfo", "InputGenerator", "MaseDataModule"]

DATASETS = {"jsc": "jets", "digits": "digits"}
"""MASE's name of a data set, and q2's."""
_LOADERS: dict[str, Split] = {
    "train": "train", "train_dataloader": "train",
    "val": "validation", "val_dataloader": "validation",
    "test": "test", "test_dataloader": "test",
}  # fmt: skip


@dataclass(frozen=True)
class DatasetInfo:
    """What MASE knows of a data set."""

    name: str
    num_classes: int


class _Loader:
    """A split that can be iterated again and again."""

    def __init__(self, data: Data, split: Split) -> None:
        self.data, self.split = data, split

    def __iter__(self) -> Iterator[Batch]:
        return self.data.batches(self.split)

    def __len__(self) -> int:
        return math.ceil(self.data.count(self.split) / self.data.batch)


class MaseDataModule:
    """A data set with its loaders; `path` is a file of real jets, without it they are synthetic.

    Raises `ConfigError` for a data set that there is not.
    """

    def __init__(
        self, name: str, batch_size: int = 128, model_name: str = "", num_workers: int = 0, path: str = ""
    ) -> None:
        if name not in DATASETS:
            raise ConfigError(f"no data set named {name!r} (there are: {', '.join(DATASETS)})")
        self.name, self.batch_size, self.model_name = name, batch_size, model_name
        self._settings = DataSettings(name=DATASETS[name], batch=batch_size, workers=num_workers, path=path)
        self._data: Data | None = None
        self.dataset_info = DatasetInfo(name, 10 if name == "digits" else 5)

    def prepare_data(self) -> None:
        """Do nothing: there is nothing to download."""

    def setup(self) -> None:
        """Make or read the data."""
        self._data = load_data(self._settings)

    @property
    def data(self) -> Data:
        """The data; made if need be."""
        if self._data is None:
            self.setup()
        assert self._data is not None
        return self._data

    def train_dataloader(self) -> _Loader:
        """Return the batches of the training split."""
        return _Loader(self.data, "train")

    def val_dataloader(self) -> _Loader:
        """Return the batches of the validation split."""
        return _Loader(self.data, "validation")

    def test_dataloader(self) -> _Loader:
        """Return the batches of the test split."""
        return _Loader(self.data, "test")


class InputGenerator:
    """Yields the inputs of a data module's batches as keyword arguments of a model: ``{"x": batch}``.

    `which_dataloader` is ``train``, ``val`` or ``test``; raises `ConfigError` for others.
    """

    def __init__(
        self,
        data_module: MaseDataModule,
        model_info: MaseModelInfo | None = None,
        task: str = "cls",
        which_dataloader: str = "train",
    ) -> None:
        if which_dataloader not in _LOADERS:
            raise ConfigError(f"which_dataloader {which_dataloader!r}: expected one of {', '.join(_LOADERS)}")
        self._batches = data_module.data.batches(_LOADERS[which_dataloader])

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self

    def __next__(self) -> dict[str, Tensor]:
        return {"x": next(self._batches)[0]}
