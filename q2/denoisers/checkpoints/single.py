"""One .safetensors file with a denoiser, or a whole pipeline, in the layout of the tool that trained it."""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from q2.denoisers.checkpoints.checkpoint import Checkpoint, counted, shown
from q2.denoisers.checkpoints.selection import Selection
from q2.denoisers.checkpoints.stored import StoredWeights
from q2.denoisers.silence_libraries import quiet
from q2.errors import CheckpointError

__all__ = ["KnownConfig", "SingleFile"]


_TEXT = ("conditioner.", "cond_stage_model.", "text_encoders.")
_STARTS = {
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": _TEXT,
    "text_encoder_2": _TEXT,
    "text_encoder_3": ("text_encoders.t5xxl",),
}
"""How names of other components begin, in a file that has them."""


class KnownConfig(NamedTuple):
    """A denoiser's class and config, for a file whose configs are out of reach."""

    class_name: str
    config: Mapping[str, Any]


class SingleFile(Checkpoint):
    """A single file. What it does not hold, configs and tokenizers, comes from a pipeline's folder or the Hub.

    Which one is `selection.config`; without it diffusers infers the Hub id from names and shapes.
    """

    def __init__(self, where: str, selection: Selection | None = None, published: KnownConfig | None = None) -> None:
        """Raises `CheckpointError` for another file, and for what is said of folders."""
        self.where, self.selection, self.published = where, selection or Selection(), published
        self.file = Path(where)
        if self.file.suffix != ".safetensors":
            raise CheckpointError(
                f"checkpoint {where!r}: is a file, expected a pipeline folder or a .safetensors file"
                + ("; q2 reads no pickled weights" if self.file.suffix in (".ckpt", ".pt", ".pth", ".bin") else "")
            )
        for key in ("subfolder", "variant", "revision"):
            if getattr(self.selection, key):
                raise CheckpointError(f"checkpoint {where!r}: is a single file, which has no {key}; leave it out")
        self.local = self.file.parent
        self.is_alone = False

    @cached_property
    def heads(self) -> StoredWeights:
        """The file's tensors. Raises `CheckpointError` for a file that is damaged or no safetensors."""
        return StoredWeights([self.file])

    @cached_property
    def configs(self) -> Checkpoint:
        """Where the configs come from. Raises `CheckpointError`."""
        if self.selection.config:
            return Checkpoint(self.selection.config)
        from diffusers.loaders.single_file_utils import fetch_diffusers_config

        empty = {name: self.heads.empty(name) for name in self.heads}
        return Checkpoint(fetch_diffusers_config(empty)["pretrained_model_name_or_path"])

    def load_component(self, kind: Any, component: str, dtype: torch.dtype) -> nn.Module:
        """Load a component of the file. Raises `CheckpointError`: tensors that are missing, or not the class's."""
        with self._config_folder(kind, component) as folder:
            _ = self._names(kind, folder)
            with self.reading():
                model: nn.Module = kind.from_single_file(str(self.file), config=folder, dtype=dtype)
        return model

    def load_pipeline(self, kind: Any, dtype: torch.dtype, parts: Mapping[str, Any], variant_of: str = "vae") -> Any:
        """Load the pipeline around `parts`: what the file has of the rest comes from it, the rest from the configs.

        Raises `CheckpointError` for parts that neither has.
        """
        here = [name for name, starts in _STARTS.items() if any(each.startswith(starts) for each in self.heads)]
        others = [name for name in _STARTS if name not in here and name not in parts and self.configs.class_of(name)]
        with self._saying_config():
            if not here:
                return self.configs.load_pipeline(kind, dtype, parts)
            held = {name: self._other(kind, name, dtype) for name in others}
            with self.configs.reading() as config:
                return kind.from_single_file(
                    str(self.file),
                    config=str(self.configs.local or config),
                    dtype=dtype,
                    local_files_only=self.configs.local is None and not self.configs.hub.within_reach,
                    **{**held, **parts},
                )

    def _other(self, kind: Any, name: str, dtype: torch.dtype) -> Any:
        """Load a part that the file does not have from the configs' pipeline."""
        library, class_name = self.configs.entry(name)
        part = getattr(importlib.import_module(library), class_name)
        options = self.configs.options(name)
        with self.configs.reading() as where:
            return part.from_pretrained(where, subfolder=name, dtype=dtype, use_safetensors=True, **options)

    def check(self, component: str, class_name: str) -> None:
        """Raise `CheckpointError` if the file is damaged, or its configs name another class."""
        _ = self.heads
        self.check_class(component, class_name)

    def check_pipeline(self) -> None:
        """Do nothing: whether the file has all parts shows when they are loaded."""

    def class_of(self, component: str) -> str:
        """Return the name of a component's class by the configs, else the published."""
        try:
            with self._saying_config():
                return self.configs.class_of(component)
        except CheckpointError:
            if self.published is None or self.selection.config:
                raise
            return self.published.class_name

    @property
    def pipeline(self) -> str:
        """The name of the pipeline's class by the configs, empty where they are out of reach."""
        try:
            return self.configs.pipeline
        except CheckpointError:
            return ""

    @property
    def components(self) -> list[str]:
        """The names of the components that the configs have."""
        with self._saying_config():
            return self.configs.components

    @property
    def lacking(self) -> tuple[str, ...]:
        """The names of the components that the configs say are not there."""
        with self._saying_config():
            return self.configs.lacking

    @property
    def revision(self) -> str:
        """Nothing: a file has none."""
        return ""

    def options(self, component: str) -> dict[str, Any]:
        """Return nothing: there is no variant or revision."""
        return {}

    def component(self, names: tuple[str, ...]) -> tuple[str, str]:
        """Return the first of `names` that the configs have, with its class; else the first, of the published class.

        Raises `CheckpointError` where neither is known.
        """
        try:
            with self._saying_config():
                return self.configs.component(names)
        except CheckpointError:
            if self.published is None:
                raise
            return names[0], self.published.class_name

    def config(self, component: str) -> dict[str, object]:
        """Return a component's constructor arguments: the configs', else the published. Raises `CheckpointError`."""
        try:
            with self._saying_config():
                return self.configs.config(component)
        except CheckpointError:
            if self.published is None:
                raise
            return dict(self.published.config)

    def parts(self) -> dict[str, str]:
        """Return the models of the configs' pipeline."""
        with self._saying_config():
            return self.configs.parts()

    def absent(self, components: tuple[str, ...]) -> dict[str, None]:
        """Return those of `components` that the configs do not have."""
        return self.configs.absent(components)

    def stored(self, component: str) -> StoredWeights | None:
        """Return the denoiser's weights by diffusers' names, where the file has each as it is; else None."""
        import diffusers

        if self.selection.loras:
            return None
        kind = getattr(diffusers, self.class_of(component))
        with self._config_folder(kind, component) as folder:
            return self.heads.renamed(self._names(kind, folder))

    @contextmanager
    def _config_folder(self, kind: Any, component: str) -> Iterator[str]:
        """Yield a folder with the component's config.json, which `from_single_file` takes."""
        with TemporaryDirectory() as folder:
            table = {"_class_name": kind.__name__, **self.config(component)}
            Path(folder, "config.json").write_text(json.dumps(table), encoding="utf-8")
            yield folder

    def _names(self, kind: Any, folder: str) -> dict[str, str]:
        """Return the model's names of tensors, and the file's of those that it has as they are.

        Raises `CheckpointError` for tensors that are missing or unexpected. The conversion is diffusers' own, over
        tensors on meta.
        """
        from accelerate import init_empty_weights
        from diffusers.loaders.single_file_model import (
            SINGLE_FILE_LOADABLE_CLASSES,
            _get_single_file_loadable_mapping_class,
            _should_convert_state_dict_to_diffusers,
        )

        name = _get_single_file_loadable_mapping_class(kind)
        if name is None:
            raise CheckpointError(f"checkpoint {self.where!r}: diffusers loads no {kind.__name__} from a single file")
        with self.reading(), init_empty_weights():
            config = kind.load_config(folder)
            model = kind.from_config(config)
        wanted, source = model.state_dict(), {name: self.heads.empty(name) for name in self.heads}
        held: dict[str, Tensor] = dict(source)
        if _should_convert_state_dict_to_diffusers(wanted, source):
            convert = SINGLE_FILE_LOADABLE_CLASSES[name]["checkpoint_mapping_fn"]
            try:
                with quiet():
                    held = convert(checkpoint=dict(source), config=config)
            except Exception as error:  # whatever a conversion makes of names that it does not know
                reason = f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}"
                raise CheckpointError(
                    f"{self._place}: holds no {kind.__name__} that diffusers knows ({reason})"
                ) from error
        missing = [each for each in wanted if each not in held]
        ignored = kind._keys_to_ignore_on_load_unexpected or []
        unexpected = [
            each for each in held if each not in wanted and not any(re.search(part, each) for part in ignored)
        ]
        odd = [each for each in wanted if each in held and held[each].shape != wanted[each].shape]
        for names, what in (
            (missing, f"of {kind.__name__} missing"),
            (unexpected, f"that {kind.__name__} does not have"),
            (odd, f"of another shape than in {kind.__name__}"),
        ):
            if names:
                raise CheckpointError(f"{self._place}: {counted(names)} {what}: {shown(names)}")
        by_id = {id(tensor): each for each, tensor in source.items()}
        return {each: by_id[id(held[each])] for each in wanted if id(held[each]) in by_id}

    @property
    def _place(self) -> str:
        return f"checkpoint {self.where!r}"

    @contextmanager
    def _saying_config(self) -> Iterator[None]:
        """Add to errors inside where the configs come from, and what else can be given."""
        try:
            yield
        except CheckpointError as error:
            if self.selection.config:
                raise CheckpointError(f"config {self.selection.config!r} of {self.file.name}: {error}") from error
            raise CheckpointError(
                f"checkpoint {self.where!r}: its configs come from {self.configs.where}, which is not available; give "
                f"config, a local pipeline folder that has them ({error})"
            ) from error
