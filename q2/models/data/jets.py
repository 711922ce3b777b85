"""Jets: 16 features, five classes. Synthetic ones from a seed, or the real ones from a file of the user's."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from q2.errors import ConfigError

__all__ = ["CLASSES", "jets"]

CLASSES = ("g", "q", "w", "z", "t")
_FEATURES, _LATENT = 16, 6


def jets(path: str = "", samples: int = 12_000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features, float (N, 16), and classes 0 to 4, long (N,): gluon, light quark, W, Z and top jets.

    With a `path` they are read from a file (see `q2.models.data.files`), scaled to mean 0 and deviation 1 a feature.
    Without one they are made: a class is a place in 6 hidden dimensions, of which light and heavy jets share some,
    and the features are skewed sums of these with noise, so that no network gets all of them right.
    Raises `ConfigError`.

    >>> features, classes = jets(samples=100)
    >>> features.shape, sorted(set(classes.tolist()))
    (torch.Size([100, 16]), [0, 1, 2, 3, 4])
    """
    if path:
        from q2.models.data.files import read_jets

        return read_jets(Path(path))
    if samples < len(CLASSES):
        raise ConfigError(f"samples: {samples} are too few, expected {len(CLASSES)} or more")
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(CLASSES), _LATENT)) * 1.2
    centres[1, :4] = centres[0, :4] + 0.25  # a gluon and a light quark are much alike
    centres[3, :4] = centres[2, :4] - 0.2  # and so are W and Z
    mixing = rng.normal(size=(_LATENT, _FEATURES)) / np.sqrt(_LATENT)
    classes = np.arange(samples) % len(CLASSES)
    rng.shuffle(classes)
    hidden = centres[classes] + rng.normal(size=(samples, _LATENT)) * 0.9
    plain = hidden @ mixing
    features = np.where(np.arange(_FEATURES) % 3 == 0, np.expm1(plain / 2), plain + 0.2 * np.square(plain))
    features += rng.normal(size=features.shape) * 0.3
    features = (features - features.mean(0)) / features.std(0)
    return torch.tensor(features, dtype=torch.float32), torch.tensor(classes, dtype=torch.long)
