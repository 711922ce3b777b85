"""clean-fid (Parmar et al., CVPR'22) on a machine without torchvision, of which it needs one transform."""

import importlib
import importlib.util
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from q2.errors import Q2Error

__all__ = ["clean_fid"]

_LOCK = threading.RLock()


@contextmanager
def clean_fid() -> Iterator[Any]:
    """Yield the module `cleanfid.fid`, fit for the libraries that are here. Raises `Q2Error` if it is not installed.

    Only within the `with`: torchvision has a stand-in while clean-fid is imported, if it is not installed, and the
    matrix root is SciPy's without the argument that SciPy gave up. Threads take turns.
    """
    if importlib.util.find_spec("cleanfid") is None:
        raise Q2Error("FID needs clean-fid, which is not installed: pip install clean-fid")
    with _LOCK:
        fid: Any = _import()
        scipy_linalg = fid.linalg
        fid.linalg = types.SimpleNamespace(sqrtm=lambda matrix, disp=True: _sqrtm(scipy_linalg.sqrtm(matrix), disp))
        try:
            yield fid
        finally:
            fid.linalg = scipy_linalg


def _sqrtm(root: Any, disp: bool) -> Any:
    return root if disp else (root, 0.0)


def _import() -> types.ModuleType:
    if "cleanfid.fid" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("cleanfid.fid")
    stand_ins = _torchvision()
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module("cleanfid.fid")
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _torchvision() -> dict[str, types.ModuleType]:
    """Return the modules that clean-fid imports: one transform, and base classes of a network that it does not use."""
    import numpy as np
    import torch

    class ToTensor:
        """Turn an image (H, W, C) into a tensor (C, H, W); bytes into [0, 1]."""

        def __call__(self, image: Any) -> torch.Tensor:
            tensor = torch.from_numpy(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)))
            return tensor.float().div(255) if tensor.dtype == torch.uint8 else tensor

    blocks = dict.fromkeys(("InceptionA", "InceptionC", "InceptionE"), torch.nn.Module)
    contents: dict[str, dict[str, Any]] = {
        "torchvision.transforms": {"ToTensor": ToTensor},
        "torchvision.models.inception": blocks,
        "torchvision.models": {"__path__": []},
        "torchvision": {"__path__": [], "__version__": "0"},
    }
    modules: dict[str, types.ModuleType] = {}
    for name, names in contents.items():
        modules[name] = types.ModuleType(name)
        vars(modules[name]).update(names)
    for name, module in modules.items():
        parent, _, attribute = name.rpartition(".")
        if parent:
            setattr(modules[parent], attribute, module)
    return modules
