"""A run file that names code of its own runs none of it before somebody trusts its folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from q2.config import RunFile, shipped
from q2.errors import ConfigError, Q2Error
from q2.session.modules.saving import load_graph
from q2.session.reproducer import Reproducer
from q2.session.session import Session
from q2.trust import code_in, trust
from tests.test_cli import run

NAMED = {
    "plugins.modules": '[plugins]\nmodules = ["mine.py"]\n',
    "model.import": '[model]\nimport = "mine:make"\n',
    "data.import": '[model]\nname = "jsc-tiny"\n[data]\nimport = "mine:make"\n',
    "denoiser.model": '[denoiser]\nmodel = "mine:Net"\nweights = "random"\n',
}
CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nobody trusts, with code that leaves a trace when it is imported."""
    monkeypatch.delenv("Q2_TRUST")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.syspath_prepend(tmp_path / "foreign")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.py").write_text(CODE)
    return tmp_path / "foreign"


@pytest.mark.parametrize("key", NAMED)
def test_code_that_a_foreign_run_file_names_is_not_run(foreign: Path, key: str) -> None:
    (foreign / "run.toml").write_text(NAMED[key])
    with pytest.raises(ConfigError, match=rf"^run.toml: {key} names code that would be run, 'mine.*; .*q2 --trust"):
        RunFile.load(str(foreign / "run.toml"))
    assert not (foreign / "ran").exists()


def test_trust_is_said_once_for_a_folder(
    foreign: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (foreign / "run.toml").write_text(NAMED["plugins.modules"])
    show = ("config", "show", "--config", str(foreign / "run.toml"))
    assert run(monkeypatch, *show) == 2
    assert capsys.readouterr().err.startswith("q2: run.toml: plugins.modules names code")
    command = [sys.executable, "-m", "q2", "--trust", *show]
    subprocess.run(command, check=True, capture_output=True)  # in a process of its own, which alone it trusts all
    assert (foreign / "ran").exists()
    assert (foreign.parent / "config" / "q2" / "trusted").read_text().splitlines() == [str(foreign.resolve())]
    assert run(monkeypatch, *show) == 0
    (foreign.parent / "run.toml").write_text(NAMED["plugins.modules"])
    assert run(monkeypatch, "config", "show", "--config", str(foreign.parent / "run.toml")) == 2


def test_a_home_that_cannot_be_written_trusts_for_one_run(foreign: Path) -> None:
    (foreign.parent / "config").touch()  # a file, where a folder should be
    (foreign / "run.toml").write_text(NAMED["plugins.modules"])
    command = [sys.executable, "-m", "q2", "--trust", "config", "show", "--config", str(foreign / "run.toml")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_the_folder_of_a_trusted_run_is_trusted_and_a_copy_of_it_is_not(foreign: Path) -> None:
    (foreign / "run.toml").write_text(NAMED["plugins.modules"])
    trust(foreign)
    run = Session(RunFile.load(str(foreign / "run.toml")))
    own, copied = foreign / "out" / "effective.toml", foreign / "sent" / "effective.toml"
    for file in (own, copied):
        file.parent.mkdir()
    run.write_settings(own.parent)
    assert RunFile.load(str(own)).settings.plugins.modules == (str(foreign / "mine.py"),)
    copied.write_text(run.effective_toml)
    with pytest.raises(ConfigError, match=r"plugins.modules names code that would be run"):
        RunFile.load(str(copied))


def test_a_run_that_trusts_everything_adds_no_folder(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("Q2_TRUST", "1")
    Session(RunFile.load("digits-dit.toml", [f'plugins.modules=["{foreign / "mine.py"}"]'])).write_settings(foreign)
    assert not (foreign.parent / "config").exists()


def test_what_a_call_names_itself_is_trusted(foreign: Path) -> None:
    name = str(foreign / "mine.py")
    assert RunFile.load("digits-dit.toml", [f'plugins.modules=["{name}"]']).settings.plugins.modules == (name,)


def test_what_ships_with_q2_and_classes_of_diffusers_need_no_trust(foreign: Path) -> None:
    assert len([RunFile.load(name) for name in shipped()]) > 10
    ours = {"plugins": {"modules": ["q2.plugins.tensorboard"]}, "model": {"import": "torch.nn:Linear"}}
    assert code_in(ours | {"denoiser": {"model": "diffusers:DiTTransformer2DModel"}}) == {}


@pytest.mark.parametrize(
    "name", ["os:system", "q2.files:shutil.rmtree", "torch.nn:modules.module.torch.os.system", "torch:hub.load", "q2:x"]
)
def test_a_name_of_ours_is_no_way_to_other_code(name: str) -> None:
    assert code_in({"model": {"import": name}}) == {("model", "import"): name}


def test_a_saved_folder_runs_nothing(foreign: Path) -> None:
    head = {"q2": "graph", "version": 1, "model": {"import": "mine:make"}, "modules": {}, "facts": {}}
    (foreign / "graph.json").write_text(json.dumps(head))
    with pytest.raises(Q2Error, match=r"graph.json: model.import names code that would be run, 'mine:make'"):
        load_graph(foreign)
    assert not (foreign / "ran").exists()


def test_a_reproducer_runs_nothing(foreign: Path) -> None:
    (foreign / "crash.toml").write_text(
        'format = 1\nrun = "a"\npasses = "size"\n[failure]\ntitle = "size"\nnumber = 1\nerror = "x"\n'
        '[settings.plugins]\nmodules = ["mine.py"]\n'
    )
    found = Reproducer.load(foreign / "crash.toml")
    with pytest.raises(ConfigError, match=r"settings: plugins.modules names code that would be run, 'mine.py'"):
        found.run_file(foreign / "crash.toml")
