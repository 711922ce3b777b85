"""Where a denoiser's weights come from: a local folder or a Hub id, checked before diffusers reads it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from q2.denoisers.checkpoints.files import check_whole, variant_in, weight_files
from q2.denoisers.checkpoints.hub import Hub
from q2.denoisers.checkpoints.selection import Selection
from q2.denoisers.checkpoints.stored import StoredWeights
from q2.denoisers.silence_libraries import quiet
from q2.errors import CheckpointError, Q2Error, did_you_mean
from q2.files import read_json

__all__ = ["Checkpoint", "read_config"]

_OUT_OF_REACH = (
    "; is the Hub within reach? checkpoint takes a local pipeline folder too, "
    'and weights = "meta" traces, counts and draws without any'
)
_PICKLED = "; q2 reads no pickled weights: load it in diffusers once, and save_pretrained it into another folder"
_OLD = "Transformer2DModel"  # what checkpoints from before diffusers 0.29 say; their config tells which heir it is
_HEIRS = {"ada_norm_zero": "DiTTransformer2DModel", "ada_norm_single": "PixArtTransformer2DModel"}


class Checkpoint:
    """A pipeline's folder, or that of a component alone, here or in a repository of the Hugging Face Hub.

    >>> Checkpoint("stabilityai/stable-diffusion-xl-base-1.0").local is None
    True
    """

    def __init__(self, where: str, selection: Selection | None = None) -> None:
        """Raises `CheckpointError` if `where` is neither such a folder nor shaped like a Hub id."""
        if not where:
            raise CheckpointError("no checkpoint is named, expected a pipeline folder or a Hub id (owner/name)")
        self.where, self.selection = where, selection or Selection()
        path = Path(where)
        self.local = path / self.selection.subfolder if path.exists() else None
        self.hub = Hub(where, self.selection.revision, self.selection.subfolder)
        if self.local is None:
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", where, re.ASCII) or where.startswith("."):
                raise CheckpointError(f"checkpoint {where!r}: no such folder, and not a Hub id (owner/name)")
        else:
            self._check_folder(path, self.local)

    def _check_folder(self, path: Path, folder: Path) -> None:
        if not path.is_dir():
            raise CheckpointError(f"checkpoint {self.where!r}: is a file, expected a pipeline folder")
        if self.selection.revision:
            raise CheckpointError(f"checkpoint {self.where!r}: is a folder, and revision is of the Hub; leave it out")
        if not folder.is_dir():
            raise CheckpointError(
                f"checkpoint {self.where!r}: there is no subfolder {self.selection.subfolder!r} in it"
            )
        if not (folder / "model_index.json").is_file() and not _is_component(folder / "config.json"):
            place = f"{self.selection.subfolder} is " if self.selection.subfolder else ""
            raise CheckpointError(f"checkpoint {self.where!r}: {place}no pipeline folder, model_index.json is missing")

    @cached_property
    def is_alone(self) -> bool:
        """Whether it is a component without a pipeline around it, which makes no images."""
        if self.local is not None:
            return not (self.local / "model_index.json").is_file()
        return self.hub.find("model_index.json") is None and self.hub.find("config.json") is not None

    def load_component(self, kind: Any, component: str, dtype: torch.dtype) -> nn.Module:
        """Load a component, of a class of diffusers, in `dtype` on the CPU.

        Raises `CheckpointError`: what `check` raises, and, with the file's name, tensors that are missing or that the
        class does not have.
        """
        self.check(component, kind.__name__)
        options = {**self.options(component), "subfolder": self._inside(component)}
        with self.reading() as where:
            model: nn.Module
            model, found = kind.from_pretrained(
                where, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
        self._check_names(component, kind.__name__, found["missing_keys"], found["unexpected_keys"])
        return model

    def load_pipeline(self, kind: Any, dtype: torch.dtype, parts: Mapping[str, Any], variant_of: str = "vae") -> Any:
        """Load the pipeline, of a class of diffusers, around `parts`; the variant is that of `variant_of`.

        Raises `CheckpointError`: also where the checkpoint is a component alone.
        """
        self.check_pipeline()
        options = {**self.options(variant_of), **parts}
        with self.reading() as where:
            whole = str(self.hub.folder()) if self.local is None and self.selection.subfolder else where
            whole = str(self.local or whole)
            return kind.from_pretrained(whole, dtype=dtype, use_safetensors=True, **options)

    def check_pipeline(self) -> None:
        """Raise `CheckpointError` where the checkpoint is a component alone."""
        if self.is_alone:
            raise CheckpointError(
                f"checkpoint {self.where!r}: is a component alone, which makes no images; give its pipeline's folder"
            )

    def check(self, component: str, class_name: str) -> None:
        """Raise `CheckpointError` if a local `component` is of another class, or of another quantizer than q2, or a
        weight file is not whole.
        """
        if self.local is None:
            return
        self.check_class(component, class_name)
        if (quantized := self.config(component).get("quantization_config")) is not None:
            self._check_quantized(component, quantized)
        check_whole(self._weights(component), self.where, self.local)

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

    def _check_names(self, component: str, kind: str, missing: list[str], unexpected: list[str]) -> None:
        if not missing and not unexpected:
            return
        files = self._found(component)
        name = files[0].name if len(files) == 1 else f"its {len(files)} files"
        place = f"checkpoint {self.where!r}: {Path(self._inside(component)) / name}"
        if missing:
            raise CheckpointError(f"{place}: {counted(missing)} of {kind} missing: {shown(missing)}")
        raise CheckpointError(f"{place}: {counted(unexpected)} that {kind} does not have: {shown(unexpected)}")

    def check_class(self, component: str, class_name: str) -> None:
        """Raise `CheckpointError` if `component` is of another class."""
        found = self.class_of(component)
        if found != class_name:
            raise CheckpointError(
                f"checkpoint {self.where!r}: {component} is {found or 'nothing'}, expected {class_name}"
            )

    def class_of(self, component: str) -> str:
        """Return the name of a component's class, empty where there is no such component."""
        name = self._table("config.json").get("_class_name") if self.is_alone else self.entry(component)[1]
        if name == _OLD:
            name = _HEIRS.get(str(self.config(component).get("norm_type")), _OLD)
        return name if isinstance(name, str) else ""

    def entry(self, component: str) -> tuple[str, str]:
        """Return library and class of a component by the pipeline's index; empty where there is none."""
        entry = self._table("model_index.json").get(component)
        found = (
            entry if isinstance(entry, list) and len(entry) == 2 and all(isinstance(e, str) for e in entry) else None
        )
        return (found[0], found[1]) if found else ("", "")

    def parts(self) -> dict[str, str]:
        """Return the pipeline's models, each with its class: what lies in its folder and holds weights."""
        index = self._table("model_index.json")
        found = {name: self.entry(name) for name in index if not name.startswith("_")}
        none = ("Tokenizer", "Scheduler", "Processor", "FeatureExtractor", "TokenizerFast")
        return {name: kind for name, (_, kind) in found.items() if kind and not kind.endswith(none)}

    @property
    def pipeline(self) -> str:
        """The name of the pipeline's class, empty for a component alone, or where the index says none."""
        name = "" if self.is_alone else self._table("model_index.json").get("_class_name")
        return name if isinstance(name, str) else ""

    @property
    def components(self) -> list[str]:
        """The names of the pipeline's components that are there; a component alone goes by ``transformer``."""
        if self.is_alone:
            return ["transformer"]
        return [name for name in self._table("model_index.json") if not name.startswith("_") and self.class_of(name)]

    @property
    def lacking(self) -> tuple[str, ...]:
        """The names of the components that the index says are not there."""
        index = {} if self.is_alone else self._table("model_index.json")
        return tuple(name for name, entry in index.items() if isinstance(entry, list) and not any(entry))

    @property
    def revision(self) -> str:
        """The commit of a Hub checkpoint that is in the cache; empty for a folder."""
        if self.local is not None:
            return ""
        found = self.hub.find("config.json" if self.is_alone else "model_index.json")
        below = len(Path(self.selection.subfolder).parts) if self.selection.subfolder else 0
        return found.parents[below].name if found is not None else ""

    def absent(self, components: tuple[str, ...]) -> dict[str, None]:
        """Return those of `components` that a local folder does not have, as `from_pretrained` is told so."""
        return {name: None for name in components if self.local is not None and not self.class_of(name)}

    def options(self, component: str) -> dict[str, Any]:
        """Return what `from_pretrained` needs: the variant (fp16), the revision, or to look in the cache alone."""
        if self.local is None:
            wanted = {"variant": self.selection.variant, "revision": self.selection.revision}
            here: dict[str, Any] = {} if self.hub.within_reach else {"local_files_only": True}
            return {name: value for name, value in wanted.items() if value} | here
        variant = variant_in(self.local / self._inside(component, local=True), self.selection.variant)
        return {"variant": variant} if variant else {}

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

    def stored(self, component: str) -> StoredWeights | None:
        """Return a component's weights as they lie in the files that `load_component` reads; None where those are
        not what the model has: adapters were fused into it.

        Raises `CheckpointError` for files that are missing or damaged; a checkpoint of the Hub must be in the cache.
        """
        return None if self.selection.loras else StoredWeights(self._found(component))

    def _found(self, component: str) -> list[Path]:
        """Return a component's weight files, fetched from the Hub if they are not local."""
        if self.local is not None:
            return self._weights(component)
        with self.reading():
            return weight_files(self.selection.variant, lambda name: self.hub.find(self._joined(component, name)))

    def _weights(self, component: str) -> list[Path]:
        assert self.local is not None
        folder = self.local / self._inside(component, local=True)
        if files := weight_files(variant_in(folder, self.selection.variant), lambda name: _there(folder / name)):
            return files
        others = sorted(file.name for file in folder.glob("*.safetensors"))
        what = f"of the variant {self.selection.variant!r}" if self.selection.variant else "that diffusers loads"
        if others:
            raise CheckpointError(f"checkpoint {self.where!r}: {component} holds no file {what}, but {shown(others)}")
        raise CheckpointError(f"checkpoint {self.where!r}: {component} holds no .safetensors file{_PICKLED}")

    @contextmanager
    def reading(self) -> Iterator[str]:
        """Yield the argument of `from_pretrained`, and keep libraries quiet inside.

        Raises `CheckpointError`, in one line, for any error inside that is not q2's.
        """
        try:
            with quiet():
                yield self.where
        except Q2Error:
            raise
        except Exception as error:  # what diffusers makes of a damaged file is anybody's guess
            reason, hint = str(error).strip().split("\n")[0], "" if self.local else _OUT_OF_REACH
            if not isinstance(error, OSError | ValueError | RuntimeError | SafetensorError):
                reason = f"{type(error).__name__}: {reason}"
            if self.local is None and not self.hub.within_reach:
                reason = "it is not in the cache"
            raise CheckpointError(f"checkpoint {self.where!r}: cannot be loaded: {reason}{hint}") from error

    def config(self, component: str) -> dict[str, object]:
        """Return a component's constructor arguments. Raises `CheckpointError`."""
        name = self._joined(component, "config.json")
        return {key: value for key, value in self._table(name).items() if not key.startswith("_")}

    def _inside(self, component: str, *, local: bool = False) -> str:
        """Return the subfolder of a component, below `where`, or below `local`."""
        above, own = "" if local else self.selection.subfolder, "" if self.is_alone else component
        return "/".join(filter(None, (above, own)))

    def _joined(self, component: str, name: str) -> str:
        return name if self.is_alone else f"{component}/{name}"

    def _table(self, name: str) -> dict[str, Any]:
        """Return a JSON file of the checkpoint. Raises `CheckpointError`."""
        with self.reading():
            path = self.local / name if self.local is not None else self.hub.fetch(name)
        try:
            table = read_json(path)
        except (ValueError, OSError) as error:
            wrong = "is no JSON" if isinstance(error, ValueError) else "cannot be read"
            raise CheckpointError(f"checkpoint {self.where!r}: {name} {wrong}: {error}") from error
        if not isinstance(table, dict):
            raise CheckpointError(f"checkpoint {self.where!r}: {name} is no JSON object")
        return table


def read_config(path: Path) -> dict[str, object]:
    """Return the constructor arguments in a config.json. Raises ValueError if it is no JSON object, OSError."""
    table = read_json(path)
    if not isinstance(table, dict):
        raise ValueError("no JSON object")
    return {key: value for key, value in table.items() if not key.startswith("_")}


def counted(names: list[str]) -> str:
    """Return "1 tensor" or "3 tensors"."""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}"


def shown(names: list[str]) -> str:
    """Return the first three names, sorted and quoted, and how many more there are."""
    first = ", ".join(map(repr, sorted(names)[:3]))
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


def _is_component(path: Path) -> bool:
    try:
        return "_class_name" in read_json(path)
    except (OSError, ValueError, TypeError):
        return False


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None
