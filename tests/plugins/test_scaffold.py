"""What ``q2 new plugin`` writes: a package of every kind that ruff and mypy pass. make wheel runs their tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from q2.commands.new import plugin
from q2.errors import ConfigError
from q2.plugins import spec
from q2.plugins.scaffold import KINDS, PluginPackage, write_package

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A package of every kind."""
    folder = tmp_path_factory.mktemp("packages")
    return [write_package(PluginPackage(f"my-{kind}", kind), folder / kind) for kind in KINDS]


def run(*command: str, packages: list[Path]) -> str:
    """Run a tool where the packages can be imported, as if they were installed; return what it printed."""
    paths = os.pathsep.join(map(str, (ROOT, *packages)))
    env = os.environ | {"PYTHONPATH": paths, "MYPYPATH": paths, "OMP_NUM_THREADS": "1"}
    command = (sys.executable, "-m", *command)
    done = subprocess.run(command, cwd=packages[0].parent, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_kind_of_plugin_can_be_begun() -> None:
    assert sorted(KINDS) == sorted(spec.OFFERS.values())


@pytest.mark.parametrize("name", ["x", "a" * 24, "a-b-c-d-e-f-g-h-i-j-k-l"])
def test_ruff_has_nothing_to_say_whatever_the_name(tmp_path: Path, name: str) -> None:
    written = [write_package(PluginPackage(name, kind), tmp_path / kind) for kind in KINDS]
    run("ruff", "check", "-q", ".", packages=written)
    run("ruff", "format", "-q", "--check", ".", packages=written)


def test_mypy_has_nothing_to_say(packages: list[Path]) -> None:
    sources = [str(part) for folder in packages for part in (*folder.glob("q2_plugin_*"), folder / "tests")]
    cached = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"))
    assert "no issues found" in run("mypy", *cached, *sources, packages=packages)


def test_a_package_says_how_it_is_used_and_checked(packages: list[Path]) -> None:
    for folder, kind in zip(packages, KINDS, strict=True):
        readme = (folder / "README.md").read_text(encoding="utf-8")
        assert f"my-{kind}" in readme
        assert "{{" not in "".join(file.read_text(encoding="utf-8") for file in folder.rglob("*.py"))
        ci = (folder / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
        assert "python-version: ${{ matrix.python }}" in ci
        assert f'my-{kind} = "q2_plugin_my_{kind}"' in (folder / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("Mine", "pass", "Mine: expected up to 24 small letters and digits, with '-' between words"),
        ("1st", "pass", "1st: expected up to 24 small letters"),
        ("a_b", "metric", "a_b: expected up to 24 small letters"),
        ("../x", "metric", "../x: expected up to 24 small letters"),
        ("a" * 25, "metric", "expected up to 24 small letters"),
        ("q2-plugin-x", "metric", "q2-plugin-x: leave out 'q2-plugin-'"),
        ("mine", "metrics", "--kind metrics: there is no such kind of plugin; did you mean 'metric'?"),
        ("size", "pass", "size: q2 has a pass of that name; choose another"),
        ("analysis", "pass", "analysis: its class would be called AnalysisPass, as one of q2's; choose another name"),
    ],
)
def test_a_name_that_cannot_be_is_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        plugin(name, kind)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q2-plugin-mine").mkdir()
    with pytest.raises(ConfigError, match="^q2-plugin-mine: already exists; choose another place with --out$"):
        plugin("mine", "pass")
    assert list((tmp_path / "q2-plugin-mine").iterdir()) == []
    plugin("mine", "pass", Path("elsewhere"))
    assert (tmp_path / "elsewhere" / "q2_plugin_mine" / "passes.py").is_file()
