"""The example plugins, installed from their folders as their READMEs say, are found and run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from q2.search.trials.trial import Trial
from q2.session.search import SearchResult

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
MLFLOW = """
import json, os, sys
from types import SimpleNamespace as Box

class MlflowClient:
    def _say(self, *words):
        print("mlflow", json.dumps(words), flush=True)
    def create_run(self, experiment, run_name=None, tags=None):
        self._say("run", run_name, tags)
        return Box(info=Box(run_id=f"id of {run_name}"))
    def search_runs(self, experiments, filter_string="", max_results=0):
        return [Box(data=Box(tags={"q2.trial": os.environ.get("LOGGED", "")}))]
    def __getattr__(self, name):
        return lambda *args: self._say(name, *args)
"""
TELL = """
import sys
from pathlib import Path
from q2.plugins import Plugins
from q2.search.trials.trial import Trial
plugins = Plugins()
for number in (0, 1, 1):
    trial = Trial({"a": f"uaq-{number + 3}"}, {"SQNR": 6.0 + number}, fidelity="forward", number=number)
    plugins.after_trial(trial, -4.5, Path("mine"))
plugins.after_trial(Trial({"a": "uaq-2"}, number=2, state="failed", error="none left"), None, Path("mine"))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which examples are installed."""
    place = tmp_path_factory.mktemp("installed")
    sources = [place / name for name in ("q2-plugin-outliers", "q2-plugin-mlflow")]
    for source in sources:
        left_out = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        shutil.copytree(EXAMPLES / source.name, source, ignore=left_out)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(place / "site"), *map(str, sources)], check=True, capture_output=True)
    return place / "site"


def test_the_example_plugin_installs_is_listed_and_runs(tmp_path: Path, site: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}

    def q2(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "q2", *args], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    listed = q2("list", "plugins").stdout
    assert any(line.split()[:2] == ["outliers", "0.1.0"] for line in listed.splitlines())
    text = "[passes.outliers]\nsigma = 3.0\n[passes.quantize]\nlinear = 'uaq-4'\n[passes.size]\n"
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    done = q2("transform", "--config", "run.toml", "--out", "out")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    shares = report["passes"]["outliers"]["share"]
    assert max(shares.values()) > 0


def test_the_mlflow_plugin_logs_every_trial_once_inside_the_run_of_its_search(tmp_path: Path, site: Path) -> None:
    (site / "mlflow.py").write_text(MLFLOW, encoding="utf-8")  # what it calls, in place of a server
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    env |= {"LOGGED": Trial({"a": "uaq-3"}, fidelity="forward").id}
    command = [sys.executable, "-c", TELL]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = [json.loads(line.removeprefix("mlflow ")) for line in done.stdout.splitlines()]
    folder, second, third = (
        str(tmp_path / "mine"),
        Trial({"a": "uaq-4"}, fidelity="forward"),
        Trial({"a": "uaq-2"}),
    )
    assert said[0] == ["run", "mine", {"q2.search": folder}]
    tags = {"q2.search": folder, "mlflow.parentRunId": "id of mine"}
    assert [words for words in said if words[0] == "run"][1:] == [
        ["run", "trial 1", tags | {"q2.trial": second.id}],
        ["run", "trial 2", tags | {"q2.trial": third.id}],
    ]
    assert ["log_metric", "id of trial 1", "SQNR", 7.0] in said
    assert ["log_metric", "id of trial 1", "target", -4.5] in said
    assert ["log_dict", "id of trial 1", {"a": "uaq-4"}, "recipe.json"] in said
    ends = [words[1:] for words in said if words[0] == "set_terminated"]
    assert ends == [["id of trial 1", "FINISHED"], ["id of trial 2", "FAILED"]]


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    fewer = '"search.strategies.fisher.passes": 8, "samples.images"'
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            source = cell["source"].replace('"samples.images"', fewer)
            exec(compile(source, cell["id"], "exec"), names)
    assert isinstance(names["found"], SearchResult)
    assert len(names["found"].trials) == 6
    assert "<table>" in names["found"].trials._repr_html_()
    assert (tmp_path / "my-digits" / "model_index.json").is_file()
    best, again = names["found"].best, names["trial"].metrics
    assert best is not None
    assert again["latent-SQNR"] == pytest.approx(best.metrics["latent-SQNR"])
    pictures = names["run"].sample(classes=[3], n=1, steps=2)
    assert pictures._repr_png_().startswith(b"\x89PNG")
