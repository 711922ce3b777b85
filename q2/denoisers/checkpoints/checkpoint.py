"""Where a denoiser's weights come from: a local pipeline folder or a Hub id, checked before diffusers reads it."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from safetensors import SafetensorError, safe_open

from q2.denoisers.checkpoints.stored import StoredWeights
from q2.denoisers.silence_libraries import quiet
from q2.errors import CheckpointError, did_you_mean

__all__ = ["Checkpoint", "read_config"]

_OUT_OF_REACH = (
    "; is the Hub within reach? checkpoint takes a local pipeline folder too, "
    'and weights = "meta" traces, counts and draws without any'
)
_PICKLED = "; q2 reads no pickled weights: load it in diffusers once, and save_pretrained it into another folder"
_VARIANTS = ("", "fp16", "bf16")
_OLD = "Transformer2DModel"  # what checkpoints from before diffusers 0.29 say; their config tells which heir it is
_HEIRS = {"ada_norm_zero": "DiTTransformer2DModel", "ada_norm_single": "PixArtTransformer2DModel"}
_PATIENCE = 5.0  # seconds


class Checkpoint:
    """A pipeline folder, or the id of one on the Hugging Face Hub.

    >>> Checkpoint("stabilityai/stable-diffusion-xl-base-1.0").local is None
    True
    """

    def __init__(self, where: str) -> None:
        """Raises `CheckpointError` if `where` is neither a pipeline folder nor shaped like a Hub id."""
        if not where:
            raise CheckpointError("no checkpoint is named, expected a pipeline folder or a Hub id (owner/name)")
        self.where = where
        path = Path(where)
        self.local = path if path.exists() else None
        if self.local is None:
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", where, re.ASCII) or where.startswith("."):
                raise CheckpointError(f"checkpoint {where!r}: no such folder, and not a Hub id (owner/name)")
        elif not path.is_dir():
            raise CheckpointError(f"checkpoint {where!r}: is a file, expected a pipeline folder")
        elif not (path / "model_index.json").is_file():
            raise CheckpointError(f"checkpoint {where!r}: no pipeline folder, model_index.json is missing")

    def check(self, component: str, class_name: str) -> None:
        """Raise `CheckpointError` if a local `component` is of another class, or of another quantizer than q2, or a
        weight file is not whole.
        """
        if self.local is None:
            return
        self.check_class(component, class_name)
        if (quantized := self.config(component).get("quantization_config")) is not None:
            self._check_quantized(component, quantized)
        for file in self._weights(component):
            try:
                with safe_open(file, framework="pt") as whole:
                    whole.keys()
            except (SafetensorError, OSError) as error:
                name = file.relative_to(self.local)
                raise CheckpointError(f"checkpoint {self.where!r}: {name} is truncated or damaged ({error})") from error

    def _check_quantized(self, component: str, table: object) -> None:
        if not isinstance(table, dict) or (method := table.get("quant_method")) is None:
            raise CheckpointError(
                f"checkpoint {self.where!r}: {component}/config.json: quantization_config says no quant_method"
            )
        if method != "q2":
            raise CheckpointError(
                f"checkpoint {self.where!r}: {component} was saved by the quantizer {method!r}, not q2"
            )
        from q2.denoisers.saving.quantizer import Q2Config

        try:
            Q2Config.from_dict(table)
        except CheckpointError as error:
            raise CheckpointError(f"checkpoint {self.where!r}: {component}/{error}") from error

    def check_class(self, component: str, class_name: str) -> None:
        """Raise `CheckpointError` if `component` is of another class."""
        found = self.class_of(component)
        if found != class_name:
            raise CheckpointError(
                f"checkpoint {self.where!r}: {component} is {found or 'nothing'}, expected {class_name}"
            )

    def class_of(self, component: str) -> str:
        """Return the name of a component's class, empty where there is no such component."""
        entry = self._index().get(component)
        name = entry[-1] if isinstance(entry, list) and entry else None
        if name == _OLD:
            name = _HEIRS.get(str(self.config(component).get("norm_type")), _OLD)
        return name if isinstance(name, str) else ""

    @property
    def pipeline(self) -> str:
        """The name of the pipeline's class, empty where the index does not say one of diffusers'."""
        name = self._index().get("_class_name")
        return name if isinstance(name, str) else ""

    @property
    def components(self) -> list[str]:
        """The names of the pipeline's components that are there."""
        return [name for name in self._index() if not name.startswith("_") and self.class_of(name)]

    @property
    def lacking(self) -> tuple[str, ...]:
        """The names of the components that the index says are not there."""
        return tuple(name for name, entry in self._index().items() if isinstance(entry, list) and not any(entry))

    @property
    def revision(self) -> str:
        """The commit of a Hub checkpoint that is in the cache; empty for a folder."""
        if self.local is not None:
            return ""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.where, "model_index.json")
        return Path(found).parent.name if isinstance(found, str) else ""

    def absent(self, components: tuple[str, ...]) -> dict[str, None]:
        """Return those of `components` that a local folder does not have, as `from_pretrained` is told so."""
        return {name: None for name in components if self.local is not None and not self.class_of(name)}

    def options(self, component: str) -> dict[str, Any]:
        """Return what `from_pretrained` needs: the variant of local weights (fp16), or to look in the cache alone."""
        if self.local is None:
            return {} if self._within_reach else {"local_files_only": True}
        names = [file.name for file in self._weights(component)]
        return next(
            ({"variant": variant} if variant else {} for variant in _VARIANTS if any(map(_of(variant), names))), {}
        )

    def component(self, names: tuple[str, ...]) -> tuple[str, str]:
        """Return the first of the components `names` that is there, with its class. Raises `CheckpointError`."""
        for name in names:
            if found := self.class_of(name):
                return name, found
        kind = self.pipeline or "pipeline"
        near = did_you_mean(names[0], self.components) if len(names) == 1 else ""
        raise CheckpointError(
            f"checkpoint {self.where!r}: {kind} has no denoiser ({' or '.join(names)} is missing){near}"
        )

    def stored(self, component: str) -> StoredWeights:
        """Return a component's weights as they lie in its files, of the variant that `options` says.

        Raises `CheckpointError` for files that are missing or damaged; a checkpoint of the Hub must be in the cache.
        """
        folder = self.local or self._cached(component)
        files = [file.name for file in _safetensors(folder / component)]
        variant = next(variant for variant in _VARIANTS if any(map(_of(variant), files)) or variant == _VARIANTS[-1])
        return StoredWeights(folder / component / name for name in files if _of(variant)(name))

    def _cached(self, component: str) -> Path:
        from huggingface_hub import snapshot_download

        with self.reading() as where:
            files = [f"{component}/*.safetensors", f"{component}/config.json"]
            return Path(snapshot_download(where, allow_patterns=files, local_files_only=not self._within_reach))

    def _weights(self, component: str) -> list[Path]:
        assert self.local is not None
        files = _safetensors(self.local / component)
        if not files:
            raise CheckpointError(f"checkpoint {self.where!r}: {component} holds no .safetensors file{_PICKLED}")
        return files

    @contextmanager
    def reading(self) -> Iterator[str]:
        """Yield what `from_pretrained` takes, without bars and remarks; what it raises becomes one line."""
        try:
            with quiet():
                yield self.where
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason, hint = str(error).strip().split("\n")[0], "" if self.local else _OUT_OF_REACH
            if self.local is None and not self._within_reach:
                reason = "it is not in the cache"
            raise CheckpointError(f"checkpoint {self.where!r}: cannot be loaded: {reason}{hint}") from error

    def config(self, component: str) -> dict[str, object]:
        """Return a component's constructor arguments. Raises `CheckpointError`."""
        try:
            return read_config(self._file(f"{component}/config.json"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"checkpoint {self.where!r}: {component}/config.json: {error}") from error

    def _index(self) -> dict[str, object]:
        try:
            index = json.loads(self._file("model_index.json").read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise CheckpointError(f"checkpoint {self.where!r}: model_index.json is no JSON: {error}") from error
        if not isinstance(index, dict):
            raise CheckpointError(f"checkpoint {self.where!r}: model_index.json is no JSON object")
        return index

    def _file(self, name: str) -> Path:
        """Return a file of the pipeline, fetched from the Hub if it is not local."""
        if self.local is not None:
            return self.local / name
        from huggingface_hub import hf_hub_download

        with self.reading() as where:
            return Path(hf_hub_download(where, name, local_files_only=not self._within_reach))

    @cached_property
    def _within_reach(self) -> bool:
        """Whether the Hub answers, asked once; its own client would try for half a minute and print every try."""
        from huggingface_hub import constants

        if any(getproxies().get(kind) for kind in ("https", "all")):
            return True
        address = urlsplit(constants.ENDPOINT)
        try:
            with socket.create_connection((address.hostname, address.port or 443), timeout=_PATIENCE):
                return True
        except OSError:
            return False


def read_config(path: Path) -> dict[str, object]:
    """Return the constructor arguments in a config.json. Raises ValueError if it is no JSON object, OSError."""
    table = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(table, dict):
        raise ValueError("no JSON object")
    return {key: value for key, value in table.items() if not key.startswith("_")}


def _safetensors(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _of(variant: str) -> Callable[[str], bool]:
    """Return whether a weight file's name is of a variant: ``model.fp16.safetensors``, also in shards."""
    return lambda name: (f".{variant}" in name.removesuffix(".safetensors")) if variant else name.count(".") == 1
