"""The command line as a user meets it, each call in its own process where that matters."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from q2 import cli
from q2.quant import Recipe

SMALL = ("--set", "samples.images=20", "--set", "passes.stats.samples=2", "--set", "passes.stats.steps=2")
CPU_SECONDS = 0.3


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """Run a command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["q2", *args])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_help_is_quick_and_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, time, atexit\nsys.argv = ['q2', '--help']\nfrom q2.cli import main\n"
        "def told(): print([m for m in ('torch', 'numpy', 'diffusers') if m in sys.modules], time.process_time())\n"
        "atexit.register(told)\nmain()\n"
    )
    times = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        loaded, seconds = done.stdout.splitlines()[-1].rsplit(" ", 1)
        assert loaded == "[]"
        assert "transform" in done.stdout
        times.append(float(seconds))
    assert min(times) <= CPU_SECONDS


def test_the_default_run_writes_report_recipe_settings_manifest_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, "transform", *SMALL, "--out", str(out), "--verify-each") == 0
    said = capsys.readouterr().out
    names = {
        "samples.png",
        "full.png",
        "quantized.png",
        "report.json",
        "recipe.toml",
        "effective.toml",
        "manifest.json",
    }
    assert {file.name for file in out.iterdir()} == names
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert 3.5 <= report["passes"]["size"]["avg_bits"] <= 4.6
    assert report["passes"]["bops"]["tbops"] < report["passes"]["bops"]["full_tbops"]
    assert report["passes"]["bops"]["gmacs"] > 0
    assert {"full", "quantized", "loss", "low", "high"} == set(report["samples"]["accuracy"])
    assert all(result["seconds"] >= 0 for result in report["passes"].values())
    with Image.open(out / "samples.png") as picture:
        assert picture.width > picture.height > 200
    recipe = Recipe.load(out / "recipe.toml")
    assert recipe.avg_bits == report["passes"]["size"]["avg_bits"]
    assert len({str(option) for option in recipe.layers.values()}) >= 3
    assert "effective" in said
    assert "within noise, but 20 images are few)" in " ".join(said.split())
    assert "next:" in said


def test_two_runs_and_the_effective_file_and_the_recipe_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "transform", *SMALL, "--out", "a") == 0
    assert run(monkeypatch, "transform", *SMALL, "--out", "b") == 0
    assert run(monkeypatch, "transform", "--config", "a/effective.toml", "--out", "c") == 0
    assert run(monkeypatch, "transform", *SMALL, "--recipe", "a/recipe.toml", "--out", "d") == 0
    for other in ("b", "c", "d"):
        assert Path(other, "recipe.toml").read_bytes() == Path("a/recipe.toml").read_bytes()
        assert Path(other, "samples.png").read_bytes() == Path("a/samples.png").read_bytes()
        assert figures(Path(other)) == figures(Path("a"))
    assert Path("b/effective.toml").read_bytes() == Path("a/effective.toml").read_bytes()


def figures(folder: Path) -> object:
    """Return the report without its seconds, and without the passes as text, which name a recipe's file."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    del report["pass_pipeline"]
    for part in (*report["passes"].values(), report["samples"]):
        del part["seconds"]
    return report


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ("--config", "gone.toml"),
            "q2: gone.toml: no such run file (shipped: digits-dit-calibrated.toml, digits-dit.toml, "
            "digits-sdxl-calibrated.toml, digits-sdxl.toml, dit.toml, flux-schnell.toml, flux.toml, hunyuan.toml, "
            "jsc-three-linear-search.toml, jsc-tiny-search.toml, jsc-tiny.toml, lumina2.toml, pixart-alpha.toml, "
            "pixart-sigma.toml, qwen-image.toml, sana.toml, scenes-sd3-calibrated.toml, scenes-sd3.toml, "
            "sd35-large.toml, sd35-medium.toml, sdv15.toml, sdxl.toml, wan21.toml, z-image.toml)",
        ),
        (("--set", "sead=3"), "q2: digits-dit.toml, --set sead: unknown key; did you mean 'seed'?"),
        (
            ("--set", "passes.quantise.by=type"),
            "q2: digits-dit.toml, --set passes.quantise: no pass named 'quantise'; did you mean 'quantize'?",
        ),
        (
            ("--set", "denoiser.name=digit-dit"),
            "q2: digits-dit.toml, --set denoiser.name: no denoiser named 'digit-dit'; did you mean 'digits-dit'?",
        ),
        (
            ("--set", "denoiser.checkpoint=/nowhere"),
            "q2: digits-dit.toml, --set denoiser.checkpoint: checkpoint '/nowhere': no such folder, and not a Hub id "
            "(owner/name)",
        ),
        (
            ("--set", "passes.quantize.default=uaq-17"),
            "q2: digits-dit.toml, --set passes.quantize: width 17 of 'uaq-17' is outside 1 to 8",
        ),
        (
            ("--set", 'passes.quantize."attn9"="uaq-4"'),
            "q2: digits-dit.toml: passes.quantize: no layer matches 'attn9' (there are: pos_embed.proj, "
            "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1, "
            "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2, transformer_blocks.0.norm1.linear, …)",
        ),
        (("--recipe", "gone.toml"), "q2: --recipe gone.toml: cannot be read: No such file or directory"),
        (("--out", "file"), "q2: --out file: file is a file, expected a folder"),
        (("--set", "denoiser.device=cuda:77"), "q2: digits-dit.toml, --set denoiser.device: device 'cuda:77' cannot be "
         "used here: "),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_exit_code_2_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine", encoding="utf-8")
    assert run(monkeypatch, "transform", *args) == 2
    said = capsys.readouterr().err
    expected = line.format(cwd=tmp_path)
    assert said.startswith(expected) if expected.endswith(": ") else said == expected + "\n"
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert Path("file").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_cannot_be_made_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--set", "samples.images=0", "--set", "passes.stats.samples=0", "--out", "/proc/q2/out")
    assert run(monkeypatch, "transform", *args) == 2
    assert capsys.readouterr().err == "q2: /proc/q2/out: cannot be written: No such file or directory\n"


def test_a_recipe_replaces_every_quantize_pass_and_may_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Recipe.of({}, "digits-dit", "", 16.0).save("r.toml")
    text = "[passes.one]\npass = 'quantize'\nlinear = 'uaq-4'\n[passes.quantize]\nconv2d = 'uaq-3'\n[passes.size]\n"
    Path("run.toml").write_text(text, encoding="utf-8")
    assert run(monkeypatch, "transform", "--config", "run.toml", "--recipe", "r.toml", "--out", "out") == 0
    assert "0 of 39 weight layers" in capsys.readouterr().out
    assert json.loads(Path("out/report.json").read_text(encoding="utf-8"))["passes"]["size"]["avg_bits"] == 16


def test_ctrl_c_exits_130_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("q2.session.transform.draw", interrupted)
    assert run(monkeypatch, "transform", *SMALL, "--out", "out") == 130
    assert capsys.readouterr().err == "q2: stopped; nothing is half-written\n"
    assert not list((tmp_path / "out").iterdir())


def test_our_own_fault_exits_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("q2.graph.trace", broken)
    assert run(monkeypatch, "transform") == 1
    assert "internal error: ZeroDivisionError: by zero" in capsys.readouterr().err


def test_config_show_prints_where_every_setting_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "config", "show", "--set", "seed=11") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["setting", "default", "file", "override", "effective"] in lines
    assert ["seed", "0", "7", "11", "11"] in lines


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("passes", ["report", "stats", "bops", "size", "units", "dag", "quantize", "quantize-activations"]),
        ("quantizers", ["uaq", "kmeans-c", "kmeans-a", "none"]),
        ("denoisers", ["digits-dit", "digits-sdxl", "dit", "pixart-alpha", "pixart-sigma", "hunyuan", "sdxl", "sdv15"]),
        ("exporters", ["dequantized", "gguf"]),
        ("plugins", ["q2"]),
        ("configs", ["digits-dit.toml", "digits-sdxl.toml", "sdxl.toml"]),
    ],
)
def test_lists_name_what_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, names: list[str]
) -> None:
    assert run(monkeypatch, "list", what) == 0
    first = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert set(names) <= set(first)


def test_lists_have_what_the_plugins_of_a_run_file_offer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "from q2.plugins import hookimpl\n\n\n@hookimpl\ndef q2_quantizers():\n"
        "    return {'mine': 'q2.quant.quantizers.uniform:Uaq'}\n"
    )
    (tmp_path / "run.toml").write_text('[plugins]\nmodules = ["mine.py"]\n')
    for words, there in (((), False), (("--config", str(tmp_path / "run.toml")), True)):
        assert run(monkeypatch, "list", "quantizers", *words) == 0
        first = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
        assert ("mine" in first, "uaq" in first) == (there, True)


def test_transform_saves_and_export_writes_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, plain = tmp_path / "saved", tmp_path / "plain"
    tiny = ("--set", "denoiser.name=dit", "--set", "denoiser.tiny=true", "--set", "samples.images=0", *SMALL[2:])
    assert run(monkeypatch, "transform", *tiny, "--out", str(tmp_path / "out"), "--save", str(saved)) == 0
    assert f"{saved}/: 0." in " ".join(capsys.readouterr().out.split())
    assert (saved / "model_index.json").is_file()
    assert run(monkeypatch, "export", "--from", str(saved), "--to", "dequantized", "--out", str(plain)) == 0
    assert "layers dequantized to float16" in capsys.readouterr().out
    assert run(monkeypatch, "transform", *tiny, "--save", str(saved)) == 2
    assert "already exists; choose another place" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--to", "ggu"], "no exporter named 'ggu'; did you mean 'gguf'?"),
        (["--to", "gguf", "--from", "nowhere"], "'nowhere': no such folder"),
        (["--to", "gguf", "--from", "here", "--recipe", "r.toml"], "leave out --recipe and --set"),
    ],
)
def test_an_export_that_cannot_be_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, args: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "export", *args, "--out", "x.gguf") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"q2 {project['project']['version']}\n"


@pytest.mark.parametrize("name", ["dit", "pixart-alpha", "pixart-sigma", "hunyuan", "sdxl", "sdv15"])
def test_shipped_run_files_plan_and_count_without_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "out"
    meta = ("--set", "denoiser.weights=meta", "--set", "passes.stats.samples=1")
    assert run(monkeypatch, "transform", "--config", f"{name}.toml", *meta, "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert said.count("left out: it needs weights, and these are on meta") == 2  # stats and samples
    assert "planned: weights on meta have no values to fit" in " ".join(said.split())
    assert {file.name for file in out.iterdir()} == {"report.json", "recipe.toml", "effective.toml", "manifest.json"}
    recipe = Recipe.load(out / "recipe.toml")
    assert 4 < recipe.avg_bits < 4.6
    assert (
        json.loads((out / "report.json").read_text(encoding="utf-8"))["passes"]["size"]["avg_bits"] == recipe.avg_bits
    )


def test_plot_dag_draws_a_denoiser_without_loading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, block = tmp_path / "whole.svg", tmp_path / "block.png"
    assert run(monkeypatch, "plot", "dag", "--config", "dit.toml", "--out", str(whole)) == 0
    assert capsys.readouterr().out == f"{whole}: 85 units · 424 nodes, 620 edges\n"
    assert "4.22 bits" in whole.read_text(encoding="utf-8")
    assert run(monkeypatch, "plot", "dag", "--block", "2", "--out", str(block)) == 0
    with Image.open(block) as picture:
        assert picture.height > 300


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--block", "nine"), "q2: --block nine: no block 'nine' (there are: transformer_blocks.0 to "
         "transformer_blocks.3)"),
        (("--out", "dag.bmp"), "q2: --out dag.bmp: expected a name that ends in .svg or .png"),
        (("--out", "/dev/null/dag.svg"), "q2: --out /dev/null/dag.svg: cannot be written: File exists"),
        (("--set", "denoiser.weights=none"), "q2: digits-dit.toml, --set denoiser.weights: should be 'pretrained', "
         "'random' or 'meta', not \"none\""),
    ],
)  # fmt: skip
def test_a_plot_that_cannot_be_drawn_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "plot", "dag", *args) == 2
    assert capsys.readouterr().err.splitlines() == [line]
    assert list(tmp_path.iterdir()) == []
