"""Every rule of the plugin manager: one door, clashes, broken plugins, misspelt hooks, local files, lazy loading."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from q2.denoisers.kinds import DENOISERS
from q2.errors import PluginError
from q2.exporters.kinds import EXPORTERS
from q2.passes.kinds import PASSES
from q2.plugins import Kind, Plugins, builtin, spec
from q2.quant.kinds import QUANTIZERS
from q2.search.kinds import ENGINES, METRICS, STRATEGIES
from q2.search.trials.trial import Trial

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
    assert set(plugins.of(PASSES)) == set(builtin.q2_passes())
    assert set(plugins.of(QUANTIZERS)) == set(builtin.q2_quantizers())
    assert set(plugins.of(DENOISERS)) == set(builtin.q2_denoisers())


KINDS = (PASSES, QUANTIZERS, DENOISERS, EXPORTERS, METRICS, STRATEGIES, ENGINES)


def test_every_hook_that_hands_over_has_a_kind() -> None:
    hooks = [name for name in vars(spec) if name.startswith("q2_")]
    offering = [name for name in hooks if not inspect.signature(getattr(spec, name)).parameters]
    assert [kind.hook for kind in KINDS] == offering == list(spec.OFFERS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_loads_and_goes_by_its_own_name(kind: Kind[Any]) -> None:
    catalogue = Plugins(entry_points=False).of(kind)
    for name in catalogue:
        assert catalogue.load(name).name == name


def test_a_local_file_adds_a_pass(tmp_path: Path) -> None:
    plugins = local(tmp_path, GOOD.replace("NAME", "hello"))
    assert plugins.of(PASSES).load("hello").__name__ == "Hello"
    assert plugins.of(PASSES).owners("hello") == ("mine.py",)


def test_a_clash_names_both_owners_and_is_fatal_only_to_who_names_it(tmp_path: Path) -> None:
    plugins = local(tmp_path, GOOD.replace("NAME", "size"))
    assert plugins.of(PASSES).load("bops").name == "bops"
    with pytest.raises(PluginError, match="the pass 'size' is offered by both 'q2' and 'mine.py'"):
        plugins.of(PASSES).load("size")


def test_a_misspelt_hook_is_an_error(tmp_path: Path) -> None:
    text = GOOD.replace("NAME", "hello").replace("q2_passes", "q2_pases")
    with pytest.raises(PluginError, match=r"'mine\.py' is broken: unknown hook 'q2_pases'; did you mean 'q2_passes'\?"):
        local(tmp_path, text)


def test_a_hook_of_another_version_may_be_optional(tmp_path: Path) -> None:
    later = "\n\n@hookimpl(optionalhook=True)\ndef q2_after_sample(images):\n    pass\n"
    assert "hello" in local(tmp_path, GOOD.replace("NAME", "hello") + later).of(PASSES)
    with pytest.raises(PluginError, match="unknown hook 'q2_after_sample'; did you mean 'q2_after_"):
        local(tmp_path, GOOD.replace("NAME", "hello") + later.replace("optionalhook=True", ""))


def test_a_local_file_is_read_anew_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a change keeps the size and comes within the second that Python's cache goes by."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for said in ("Say hello.", "Say hallo."):
        loaded = local(tmp_path, GOOD.replace("NAME", "hello").replace("Say hello.", said)).of(PASSES).load("hello")
        assert loaded.__doc__ == said
    assert [file.name for file in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(AnalysisPass)", "", "is the class Hello, expected a subclass of q2.passes.Pass"),
        (
            "(AnalysisPass)",
            "(Pass)",
            "is the class Hello, which is neither an AnalysisPass nor a TransformPass",
        ),
        ("def run", "def rum", "is the class Hello, which lacks run"),
        ('"hello"\n', '"helo"\n', "is the class Hello, whose own name is 'helo'; the two must be the same"),
        ("@dataclass(frozen=True)\n", "", "has the option 'sigma', but Hello lacks its @dataclass(frozen=True)"),
        (
            "    sigma",
            "    provides: ClassVar = ('macs',)\n    sigma",
            "is the class Hello, whose 'provides' is ('macs',), expected a tuple of facts",
        ),
        (
            "    sigma",
            "    requires: ClassVar = 'size'\n    sigma",
            "is the class Hello, whose 'requires' is 'size', expected a tuple of names of passes",
        ),
    ],
)
def test_a_class_that_is_not_what_the_hook_hands_over_names_its_owner(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = GOOD.replace("NAME", "hello").replace("import AnalysisPass", "import Pass, AnalysisPass")
    text = text.replace("    def run", "    sigma: float = 4.0\n    def run")
    assert local(tmp_path, text).of(PASSES).load("hello").__name__ == "Hello"
    with pytest.raises(PluginError) as caught:
        local(tmp_path, text.replace(old, new, 1)).of(PASSES).load("hello")
    assert str(caught.value) == f"mine.py: q2_passes: 'hello' {message}"


def test_what_is_no_class_behind_a_place_names_its_owner(tmp_path: Path) -> None:
    text = "from q2.plugins import hookimpl\n@hookimpl\ndef q2_metrics():\n    return {'e': 'math:e'}\n"
    message = r"^mine\.py: q2_metrics: 'e' is of type float, expected a subclass of q2\.search\.metrics\.Metric$"
    with pytest.raises(PluginError, match=message):
        local(tmp_path, text).of(METRICS).load("e")


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
    (line,) = plugins.after_trial(Trial({"a": "uaq-4"}), None, tmp_path)
    assert line.startswith(f"q2_after_trial of 'mine.py' failed at {tmp_path / 'mine.py'}:4: OSError: no disk")
    assert plugins.after_trial(Trial({"a": "uaq-3"}), None, tmp_path) == []


@pytest.mark.parametrize("order", [("bad.py", "good.py"), ("good.py", "bad.py")])
def test_a_hook_that_raises_keeps_no_other_plugin_from_being_told(tmp_path: Path, order: tuple[str, str]) -> None:
    start = "from q2.plugins import hookimpl\n@hookimpl\n"
    (tmp_path / "bad.py").write_text(f"{start}def q2_after_trial():\n    1 / 0\n", encoding="utf-8")
    said = "    (folder / trial.id).touch()\n"
    (tmp_path / "good.py").write_text(f"{start}def q2_after_trial(trial, folder):\n{said}", encoding="utf-8")
    plugins = Plugins([str(tmp_path / name) for name in order], entry_points=False)
    trials = [Trial({"a": "uaq-4"}), Trial({"a": "uaq-3"})]
    assert [len(plugins.after_trial(trial, None, tmp_path)) for trial in trials] == [1, 0]
    assert all((tmp_path / trial.id).exists() for trial in trials)


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
    assert plugins.of(PASSES).load("size").name == "size"
    with pytest.raises(PluginError, match=r"no pass named 'theirs' .*; the plugin 'q2-broken' is broken: RuntimeError"):
        plugins.of(PASSES).load("theirs")


def test_an_installed_plugin_can_be_disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "q2-hello", GOOD.replace("NAME", "hello"), monkeypatch)
    assert "hello" in Plugins().of(PASSES)
    assert "hello" not in Plugins(disable=["q2-hello"]).of(PASSES)
    with pytest.raises(PluginError, match=r"no installed plugin 'q2-helo'; did you mean 'q2-hello'\?"):
        Plugins(disable=["q2-helo"])


def test_a_thing_whose_module_is_missing_names_its_owner(tmp_path: Path) -> None:
    text = "from q2.plugins import hookimpl\n@hookimpl\ndef q2_passes():\n    return {'far': 'not_there.at_all:Pass'}\n"
    with pytest.raises(PluginError, match=r"mine\.py: cannot load 'far' from 'not_there\.at_all:Pass': ModuleNotFound"):
        local(tmp_path, text).of(PASSES).load("far")


def test_finding_plugins_loads_nothing_heavy() -> None:
    code = "import sys; from q2.plugins import Plugins; Plugins(entry_points=False); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
