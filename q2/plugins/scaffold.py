"""A plugin package of one's own to begin with, rendered from the templates that ship with q2."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from q2.errors import ConfigError, there_are, why
from q2.files import creating
from q2.plugins.api import API
from q2.plugins.spec import OFFERS

__all__ = ["KINDS", "PluginPackage", "write_package"]

_NAME = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
_LONGEST = 24
_PREFIX = "q2-plugin-"


@dataclass(frozen=True)
class _Kind:
    """What templates say of a kind: its hook, the module of its `Kind`, and a command that uses a thing called NAME."""

    hook: str
    kinds: str
    use: str


_HOOKS = {kind: hook for hook, kind in OFFERS.items()}
KINDS: Mapping[str, _Kind] = {
    "pass": _Kind(_HOOKS["pass"], "q2.passes.kinds", "q2 transform --set 'passes.NAME.layers=\"*\"'"),
    "quantizer": _Kind(_HOOKS["quantizer"], "q2.quant.kinds", "q2 transform --set passes.quantize.default=NAME-4"),
    "metric": _Kind(
        _HOOKS["metric"],
        "q2.search.kinds",
        "q2 search --config digits-dit.toml --trials 10 --set 'search.evaluation.metrics=[\"NAME\"]'",
    ),
    "strategy": _Kind(
        _HOOKS["strategy"], "q2.search.kinds", "q2 search --config digits-dit.toml --trials 20 --strategy NAME"
    ),
    "exporter": _Kind(_HOOKS["exporter"], "q2.exporters.kinds", "q2 export --to NAME --out digits.safetensors"),
    "engine": _Kind(
        _HOOKS["engine"],
        "q2.search.kinds",
        "q2 search --config digits-dit.toml --trials 20 --set search.engine.name=NAME",
    ),
    "denoiser": _Kind(
        _HOOKS["denoiser"],
        "q2.denoisers.kinds",
        "q2 transform --config sdv15.toml --set denoiser.name=NAME --set denoiser.checkpoint="
        " --set denoiser.weights=meta",
    ),
}
"""The kinds of things that a plugin can offer, in the order in which messages list them."""


@dataclass(frozen=True)
class PluginPackage:
    """A plugin package that offers one thing of a `kind`, called `name`.

    Raises `ConfigError`, one line, for a kind that there is not and a name that no thing of the kind can have.

    >>> package = PluginPackage("bad-tiles", "metric")
    >>> package.package, package.module, package.cls
    ('q2-plugin-bad-tiles', 'q2_plugin_bad_tiles', 'BadTilesMetric')
    """

    name: str
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"--kind {self.kind}: there is no such kind of plugin{there_are(self.kind, KINDS)}")
        if self.name.startswith(_PREFIX):
            raise ConfigError(f"{self.name}: leave out {_PREFIX!r}; it is put in front of the package's name")
        if not re.fullmatch(_NAME, self.name, re.ASCII) or len(self.name) > _LONGEST:
            raise ConfigError(
                f"{self.name}: expected up to {_LONGEST} small letters and digits, with '-' between words, "
                "as in 'bad-tiles'"
            )

    @property
    def package(self) -> str:
        """The distribution's name."""
        return f"{_PREFIX}{self.name}"

    @property
    def module(self) -> str:
        """The name by which it is imported."""
        return self.package.replace("-", "_")

    @property
    def cls(self) -> str:
        """The name of the class."""
        words = "".join(word.capitalize() for word in self.name.split("-"))
        return f"{words}{self.kind.capitalize()}"

    def files(self) -> dict[str, str]:
        """Return the text of every file by its path in the package's folder. Raises `ConfigError` for a name in use."""
        file = "passes" if self.kind == "pass" else self.kind  # a module cannot be called pass
        kind = KINDS[self.kind]
        words = {
            "name": self.name,
            "kind": self.kind,
            "package": self.package,
            "module": self.module,
            "cls": self.cls,
            "file": file,
            "hook": kind.hook,
            "kinds": kind.kinds,
            "catalogue": kind.hook.removeprefix("q2_").upper(),
            "suite": f"{self.kind.capitalize()}Suite",
            "use": kind.use.replace("NAME", self.name),
            "api": API.split(".", maxsplit=1)[0],
        }
        templates = {
            "pyproject.toml": "pyproject.toml",
            "README.md": "README.md",
            ".gitignore": "gitignore",
            ".github/workflows/ci.yml": "ci.yml",
            f"{self.module}/__init__.py": "init.py",
            f"{self.module}/{file}.py": f"things/{self.kind}.py",
            f"tests/test_{file}_is_found.py": "test_found.py",
            f"tests/test_{file}.py": f"tests/{self.kind}.py",
        }
        found = {path: _rendered(name, words) for path, name in templates.items()}
        if self.cls in _imported(found[f"{self.module}/{file}.py"]):
            raise ConfigError(f"{self.name}: its class would be called {self.cls}, as one of q2's; choose another name")
        return {**found, f"{self.module}/py.typed": ""}


def write_package(package: PluginPackage, folder: Path) -> Path:
    """Write a package into a new folder, all of it or nothing. Raises `ConfigError` if the folder exists."""
    if folder.exists():
        raise ConfigError(f"{folder}: already exists; choose another place with --out")
    texts = package.files()
    try:
        with creating(folder) as beside:
            for path, text in texts.items():
                (beside / path).parent.mkdir(parents=True, exist_ok=True)
                (beside / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {why(error)}") from error
    return folder


def _rendered(name: str, words: Mapping[str, str]) -> str:
    import jinja2

    text = (resources.files("q2.plugins") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 – these are no web pages
    )
    return environment.from_string(text).render(words)


def _imported(source: str) -> set[str]:
    """Return the names that a module imports."""
    lines = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for line in lines for alias in line.names}
