"""Saved folders whose quantizers come from plugins: they say which, and are read where the plugin is."""

import json
from pathlib import Path

import pytest

import q2
from q2.denoisers import load
from q2.denoisers.saving.save import save_packed
from q2.errors import CheckpointError
from q2.passes.transform.quantize import Quantize
from q2.plugins import Plugins, use
from q2.version import version
from tests.denoisers.saving.folders import change_config, config_of, reload
from tests.plugins.test_manager import install

PLUGIN = """
from q2.plugins import hookimpl
from q2.quant.quantizers.uniform import Uaq

class Mine(Uaq):
    name = "mine"

@hookimpl
def q2_quantizers():
    return {"mine": Mine}
"""


@pytest.fixture
def with_mine(tmp_path: Path) -> tuple[Path, Path]:
    """A saved folder of a tiny DiT with a quantizer of a local file, and the file."""
    plugin = tmp_path / "my_quant.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    plugins = Plugins([str(plugin)])
    denoiser = load("dit", tiny=True, device="cpu", plugins=plugins)
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    table = Quantize.from_table({"by": "regex", "default": "mine-4", "proj": "uaq-3"}, str)
    q2.run_passes(graph, [table], denoiser=denoiser, plugins=plugins)
    save_packed(denoiser, tmp_path / "mine")
    return tmp_path / "mine", plugin


def test_a_folder_says_which_plugins_its_quantizers_came_from(with_mine: tuple[Path, Path]) -> None:
    folder, _ = with_mine
    path = folder / "transformer" / "config.json"
    assert json.loads(path.read_text(encoding="utf-8"))["quantization_config"]["quantizers"] == {
        "mine": {"plugin": "my_quant.py", "version": "local", "origin": "local"},
        "uaq": {"plugin": "q2", "version": version(), "origin": "built in"},
    }
    assert str(folder.parent) not in path.read_text(encoding="utf-8")


def test_a_plugins_quantizer_is_found_again_and_else_named(with_mine: tuple[Path, Path], tmp_path: Path) -> None:
    folder, plugin = with_mine
    line = r"the quantizer 'mine' comes from the plugin 'my_quant.py' \(local\); give --config with \[plugins\] modules"
    with pytest.raises(CheckpointError, match=line):
        reload(folder)
    with use([str(plugin)]):
        reload(folder)
    with pytest.raises(CheckpointError, match=line):
        reload(folder)
    back = load("dit", str(folder), device="cpu", plugins=Plugins([str(plugin)]))
    assert back.model is not None
    save_packed(back, tmp_path / "again")
    assert config_of(folder / "transformer") == config_of(tmp_path / "again" / "transformer")
    back.plugins = Plugins()
    save_packed(back, tmp_path / "third")
    assert config_of(folder / "transformer") == config_of(tmp_path / "third" / "transformer")


def test_an_installed_plugin_serves_and_is_named_where_it_is_missing(
    with_mine: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plugin = with_mine
    source = {"plugin": "lattice", "version": "2.1", "origin": "entry point"}
    change_config(folder, quantizers={"mine": source})
    with pytest.raises(CheckpointError, match="from the plugin 'lattice' 2.1 .entry point., which is not here"):
        reload(folder)
    install(tmp_path / "site", "lattice", plugin.read_text(encoding="utf-8"), monkeypatch)
    reload(folder)
