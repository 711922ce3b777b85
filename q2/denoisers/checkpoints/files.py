"""Which weight files of a component's folder `from_pretrained` takes: an index first, then a file of a known name."""

from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from q2.errors import CheckpointError
from q2.files import read_json

__all__ = ["VARIANTS", "check_whole", "variant_in", "weight_files"]

VARIANTS = ("", "fp16", "bf16")
"""Those that are looked for, in this order, where none is asked for."""

_STEMS = ("diffusion_pytorch_model", "model")  # what diffusers and transformers write
Find = Callable[[str], Path | None]


def variant_in(folder: Path, wanted: str = "") -> str:
    """Return the variant of a folder's weights: the one `wanted`, else the first of `VARIANTS` that is there."""
    kinds = (wanted,) if wanted else VARIANTS
    return next((kind for kind in kinds if weight_files(kind, _in(folder))), wanted)


def weight_files(variant: str, find: Find) -> list[Path]:
    """Return the files of a variant, shards in the order of their names; none where there are none.

    `find` returns a file by its name, or None. An index comes first, as diffusers has it: an old single file beside
    shards is not read, nor is any file of another name. Raises `CheckpointError` for a shard that is missing.
    """
    for stem in _STEMS:
        for name in _indices(stem, variant):
            index = find(name)
            if index is not None:
                return [_shard(index, shard, find) for shard in _shards(index)]
        single = find(f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors")
        if single is not None:
            return [single]
    return []


def check_whole(files: Iterable[Path], where: str, root: Path) -> None:
    """Raise `CheckpointError`, which calls the file as it lies in `root`, for one that is truncated or damaged."""
    for file in files:
        try:
            with safe_open(file, framework="pt") as whole:
                whole.keys()
        except (SafetensorError, OSError) as error:
            name = file.relative_to(root)
            raise CheckpointError(f"checkpoint {where!r}: {name} is truncated or damaged ({error})") from error


def _in(folder: Path) -> Find:
    return lambda name: path if (path := folder / name).is_file() else None


def _indices(stem: str, variant: str) -> tuple[str, ...]:
    """Return the names that an index may have; the second is that of older versions of diffusers."""
    if not variant:
        return (f"{stem}.safetensors.index.json",)
    return f"{stem}.safetensors.index.{variant}.json", f"{stem}.safetensors.{variant}.index.json"


def _shards(index: Path) -> list[str]:
    try:
        table = read_json(index)["weight_map"]
        return sorted(set(table.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: is no index of weight files ({type(error).__name__}: {error})") from error


def _shard(index: Path, name: str, find: Find) -> Path:
    path = find(name)
    if path is None:
        raise CheckpointError(f"{index}: names {name}, which is not there")
    return path
