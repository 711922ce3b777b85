"""Where a denoiser's weights come from: a local pipeline folder or a Hub id, checked before diffusers reads it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from q2.errors import CheckpointError

__all__ = ["Checkpoint"]


class Checkpoint:
    """A pipeline folder, or the id of one on the Hugging Face Hub.

    >>> Checkpoint("stabilityai/stable-diffusion-xl-base-1.0").local is None
    True
    """

    def __init__(self, where: str) -> None:
        """Raises `CheckpointError` if `where` is neither a pipeline folder nor shaped like a Hub id."""
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
        """Raise `CheckpointError` if a local `component` is of another class or a weight file is not whole."""
        if self.local is None:
            return
        index = self._index()
        found = index.get(component)
        if not isinstance(found, list) or found[-1:] != [class_name]:
            what = found[-1] if isinstance(found, list) and found else "nothing"
            raise CheckpointError(f"checkpoint {self.where!r}: {component} is {what}, expected {class_name}")
        files = sorted((self.local / component).glob("*.safetensors"))
        if not files:
            raise CheckpointError(f"checkpoint {self.where!r}: {component} holds no .safetensors file")
        for file in files:
            try:
                with safe_open(file, framework="pt") as whole:
                    whole.keys()
            except (SafetensorError, OSError) as error:
                name = file.relative_to(self.local)
                raise CheckpointError(f"checkpoint {self.where!r}: {name} is truncated or damaged ({error})") from error

    @contextmanager
    def reading(self) -> Iterator[str]:
        """Yield what `from_pretrained` takes, without bars and remarks; what it raises becomes one line."""
        from diffusers.utils import logging

        bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            yield self.where
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0]
            hint = "" if self.local else "; is the Hub within reach? A local pipeline folder works too"
            raise CheckpointError(f"checkpoint {self.where!r}: cannot be loaded: {reason}{hint}") from error
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()

    def _index(self) -> dict[str, object]:
        assert self.local is not None
        try:
            index = json.loads((self.local / "model_index.json").read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise CheckpointError(f"checkpoint {self.where!r}: model_index.json is no JSON: {error}") from error
        if not isinstance(index, dict):
            raise CheckpointError(f"checkpoint {self.where!r}: model_index.json is no JSON object")
        return index
