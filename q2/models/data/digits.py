"""The 1,797 handwritten digits of scikit-learn, 8×8 in grey."""

import torch
from torch import Tensor

from q2.errors import ConfigError

__all__ = ["digits"]


def digits() -> tuple[Tensor, Tensor]:
    """Return images, float (1797, 1, 8, 8) in [0, 1], and digits, long (1797,). Raises `ConfigError`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError("the data 'digits' need scikit-learn: pip install scikit-learn") from error
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    return images, torch.tensor(found.target, dtype=torch.long)
