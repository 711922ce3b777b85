"""A run's folder belongs to one run: another kind of run, denoiser or target is refused, and nothing is lost."""

from dataclasses import asdict, dataclass
from pathlib import Path

from q2.errors import ConfigError
from q2.files import read_json
from q2.session.session import Session

__all__ = ["MANIFEST", "RunOf", "check_free", "run_in", "unused"]

MANIFEST = "manifest.json"
_TRACES = {"compare": "compare.json", "search": "trials", "samples": "grid.png", "transform": "recipe.toml"}


@dataclass(frozen=True)
class RunOf:
    """What a folder is for: a kind of run, its denoiser, and the target of a search. What is empty is not known."""

    kind: str
    denoiser: str = ""
    target: str = ""

    @classmethod
    def of(cls, session: Session, kind: str) -> "RunOf":
        """Return what a run of a session is; of a search and a comparison the target counts."""
        target = session.settings.search.target if kind in ("search", "compare") else ""
        return cls(kind, session.title, target)

    def table(self) -> dict[str, str]:
        """Return it as the manifest has it."""
        return {key: value for key, value in asdict(self).items() if value}

    def __str__(self) -> str:
        words = {"compare": "comparison of strategies", "samples": "set of samples", "evaluate": "evaluation"}.get(
            self.kind, self.kind
        )
        article = "an" if words[0] in "aeiou" else "a"
        of = f" of {self.denoiser}" if self.denoiser else ""
        return f"{article} {words}{of}" + (f" for the target {self.target!r}" if self.target else "")


def run_in(folder: Path) -> RunOf | None:
    """Return the owner of a folder, by its manifest or the files of earlier versions; None if it has none."""
    try:
        table = read_json(folder / MANIFEST)
        if isinstance(table, dict) and isinstance(table.get("run"), dict):
            return RunOf(**{key: str(value) for key, value in table["run"].items()})
    except (OSError, ValueError, TypeError):
        pass
    kind = next((kind for kind, name in _TRACES.items() if (folder / name).exists()), None)
    return None if kind is None else RunOf(kind)


def check_free(folder: Path, run: RunOf, called: str = "") -> RunOf | None:
    """Return the run of the same kind, denoiser and target that has the folder, if any.

    Raises `ConfigError`, after the option's name, for a folder of another run, with one that is free.
    """
    there = run_in(folder)
    if there is None:
        return None
    differs = (there.kind != run.kind) or any(
        mine and theirs and mine != theirs
        for mine, theirs in ((run.denoiser, there.denoiser), (run.target, there.target))
    )
    if differs:
        free = _free(folder, run.kind if run.kind != there.kind else "")
        raise ConfigError(f"{called}{folder}: holds {there}, and this is {run}; take another folder, such as {free}")
    return there


def unused(folder: Path) -> Path:
    """Return a folder if it is not there, else the first of ``-2``, ``-3``, … beside it that is not."""
    return folder if not folder.exists() else _numbered(folder)


def _free(folder: Path, ending: str) -> Path:
    """Return a folder beside that is not there, named after this one."""
    return unused(folder.with_name(f"{folder.name}-{ending}")) if ending else _numbered(folder)


def _numbered(base: Path) -> Path:
    return next(path for n in range(2, 10_000) if not (path := base.with_name(f"{base.name}-{n}")).exists())
