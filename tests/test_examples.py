"""The example plugin, installed from its folder as its README says, is found and runs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "q2-plugin-outliers"


def test_the_example_plugin_installs_is_listed_and_runs(tmp_path: Path) -> None:
    site, source = tmp_path / "site", tmp_path / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, str(source)], check=True, capture_output=True)
    env = os.environ | {"PYTHONPATH": str(site)}

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
