"""Every rule of the plugin manager: one door, clashes, broken plugins, misspelt hooks, local files, lazy loading."""

import subprocess
import sys
from pathlib import Path

import pytest

from q2.errors import PluginError
from q2.plugins import Plugins, builtin
from q2.search.trials import Trial

GOOD = """
from dataclasses import dataclass
from typing import ClassVar
from q2.passes import AnalysisPass, Report
from q2.plugins import hookimpl

@dataclass(frozen=True)
class Hello(AnalysisPass):
    "Say hello."
    name: ClassVar[str] = "hello"
    def run(self, graph, ctx):
        return Report("hello")

@hookimpl
def q2_passes():
    return {"NAME": Hello}
"""


def local(folder: Path, text: str, name: str = "mine.py") -> Plugins:
    (folder / name).write_text(text, encoding="utf-8")
    return Plugins([str(folder / name)], entry_points=False)


def install(site: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a plugin with an entry point where Python looks for installed packages."""
    module = name.replace("-", "_")
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(text, encoding="utf-8")
    info = site / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[q2]\n{name} = {module}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))


def test_built_ins_come_in_through_the_same_hooks() -> None:
    plugins = Plugins(entry_points=False)
    assert set(plugins.passes) == set(builtin.q2_passes())
    assert set(plugins.quantizers) == set(builtin.q2_quantizers())
    assert set(plugins.denoisers) == set(builtin.q2_denoisers())


@pytest.mark.parametrize("kind", ["passes", "quantizers", "denoisers"])
def test_every_built_in_loads_and_goes_by_its_own_name(kind: str) -> None:
    catalogue = getattr(Plugins(entry_points=False), kind)
    for name in catalogue:
        assert catalogue.load(name).name == name


def test_a_local_file_adds_a_pass(tmp_path: Path) -> None:
    plugins = local(tmp_path, GOOD.replace("NAME", "hello"))
    assert plugins.passes.load("hello").__name__ == "Hello"
    assert plugins.passes.owners("hello") == ("mine.py",)


def test_a_clash_names_both_owners_and_is_fatal_only_to_who_names_it(tmp_path: Path) -> None:
    plugins = local(tmp_path, GOOD.replace("NAME", "size"))
    assert plugins.passes.load("bops").name == "bops"
    with pytest.raises(PluginError, match="the pass 'size' is offered by both 'q2' and 'mine.py'"):
        plugins.passes.load("size")


def test_a_misspelt_hook_is_an_error(tmp_path: Path) -> None:
    text = GOOD.replace("NAME", "hello").replace("q2_passes", "q2_pases")
    with pytest.raises(PluginError, match=r"'mine\.py' is broken: unknown hook 'q2_pases'; did you mean 'q2_passes'\?"):
        local(tmp_path, text)


def test_a_hook_without_its_mark_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="the hook 'q2_passes' lacks its @hookimpl mark"):
        local(tmp_path, GOOD.replace("NAME", "hello").replace("@hookimpl\n", ""))


def test_a_hook_with_a_wrong_argument_is_an_error(tmp_path: Path) -> None:
    text = "from q2.plugins import hookimpl\n@hookimpl\ndef q2_before_pass(nmae):\n    pass\n"
    with pytest.raises(PluginError, match="nmae"):
        local(tmp_path, text)


def test_what_a_hook_raises_is_one_line_with_its_place(tmp_path: Path) -> None:
    text = "from q2.plugins import hookimpl\n@hookimpl\ndef q2_after_trial(trial):\n    raise OSError('no\\ndisk')\n"
    plugins = local(tmp_path, text)
    with pytest.raises(PluginError, match=r"^q2_after_trial failed at .*mine\.py:4: OSError: no disk$"):
        plugins.after_trial(Trial({"a": "uaq-4"}), None, tmp_path)


def test_a_hook_that_hands_over_nonsense_is_an_error(tmp_path: Path) -> None:
    text = "from q2.plugins import hookimpl\n@hookimpl\ndef q2_passes():\n    return {'x': 3}\n"
    with pytest.raises(PluginError, match="q2_passes: 'x' is 3, expected a class or 'package.module:Class'"):
        local(tmp_path, text)


def test_a_missing_local_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"plugins\.modules: 'gone\.py' is broken: no such file: .*gone\.py"):
        Plugins([str(tmp_path / "gone.py")], entry_points=False)


def test_a_broken_installed_plugin_is_listed_and_fatal_only_to_who_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "q2-broken", "raise RuntimeError('no licence\\nfound')", monkeypatch)
    plugins = Plugins()
    (info,) = [info for info in plugins.infos if info.name == "q2-broken"]
    assert info.error == "RuntimeError: no licence found"
    assert info.version == "1.2"
    assert plugins.passes.load("size").name == "size"
    with pytest.raises(PluginError, match=r"no pass named 'theirs'; the plugin 'q2-broken' is broken: RuntimeError"):
        plugins.passes.load("theirs")


def test_an_installed_plugin_can_be_disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "q2-hello", GOOD.replace("NAME", "hello"), monkeypatch)
    assert "hello" in Plugins().passes
    assert "hello" not in Plugins(disable=["q2-hello"]).passes
    with pytest.raises(PluginError, match=r"no installed plugin 'q2-helo'; did you mean 'q2-hello'\?"):
        Plugins(disable=["q2-helo"])


def test_a_thing_whose_module_is_missing_names_its_owner(tmp_path: Path) -> None:
    text = "from q2.plugins import hookimpl\n@hookimpl\ndef q2_passes():\n    return {'far': 'not_there.at_all:Pass'}\n"
    with pytest.raises(PluginError, match=r"mine\.py: cannot load 'far' from 'not_there\.at_all:Pass': ModuleNotFound"):
        local(tmp_path, text).passes.load("far")


def test_finding_plugins_loads_nothing_heavy() -> None:
    code = (
        "import sys; from q2.plugins import Plugins; Plugins(entry_points=False).passes; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
