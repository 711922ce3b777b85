"""A repository of the Hugging Face Hub: files by name, fetched once, or from the cache alone."""

import socket
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

__all__ = ["Hub"]

_PATIENCE = 5.0  # seconds


class Hub:
    """A repository at a revision (empty: main), seen from a subfolder."""

    def __init__(self, name: str, revision: str = "", subfolder: str = "") -> None:
        self.name, self.revision, self.subfolder = name, revision or None, subfolder

    def fetch(self, name: str) -> Path:
        """Return a file of the repository. Raises what huggingface_hub raises, an OSError or ValueError."""
        from huggingface_hub import hf_hub_download

        inside = f"{self.subfolder}/{name}" if self.subfolder else name
        here = not self.within_reach
        return Path(hf_hub_download(self.name, inside, revision=self.revision, local_files_only=here))

    def find(self, name: str) -> Path | None:
        """Return a file of the repository, None if it is not there or, without the Hub, not in the cache."""
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return self.fetch(name)
        except EntryNotFoundError:  # of the cache as well
            return None

    def folder(self) -> Path:
        """Return the subfolder with all its configs, tokenizers and safetensors files."""
        from huggingface_hub import snapshot_download

        inside = f"{self.subfolder}/" if self.subfolder else ""
        kinds = [f"{inside}**{end}" for end in (".json", ".txt", ".model", ".safetensors")]
        kinds += [f"{inside}*{kind.rpartition('**')[2]}" for kind in kinds]
        here = not self.within_reach
        found = snapshot_download(self.name, revision=self.revision, allow_patterns=kinds, local_files_only=here)
        return Path(found) / self.subfolder

    @cached_property
    def within_reach(self) -> bool:
        """Whether the Hub answers, asked once; its own client would try for half a minute and print every try."""
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            return False
        if any(getproxies().get(kind) for kind in ("https", "all")):
            return True
        address = urlsplit(constants.ENDPOINT)
        try:
            with socket.create_connection((address.hostname, address.port or 443), timeout=_PATIENCE):
                return True
        except OSError:
            return False
