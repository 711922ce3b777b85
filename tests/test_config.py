"""Run files: precedence, provenance, and one clear line for everything that is wrong."""

import tomllib
from pathlib import Path

import pytest

from q2.config import RunFile, Settings, flatten, shipped, to_toml
from q2.errors import ConfigError


def load(tmp_path: Path, text: str, *overrides: str) -> RunFile:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return RunFile.load(str(path), overrides)


def test_an_override_beats_the_file_and_the_file_beats_the_default(tmp_path: Path) -> None:
    run = load(tmp_path, "seed = 3\n[samples]\nimages = 20\n", "samples.images=40")
    assert run.settings.seed == 3
    assert run.settings.samples.images == 40
    assert run.settings.samples.batch == Settings().samples.batch


def test_the_table_shows_default_file_override_and_effective(tmp_path: Path) -> None:
    run = load(tmp_path, "seed = 3\n", "seed=5")
    rows = run.rows(Settings().model_dump(mode="json"), run.settings.model_dump(mode="json"))
    assert ["seed", "0", "3", "5", "5"] in rows
    assert ["samples.batch", "100", "–", "–", "100"] in rows


def test_passes_keep_the_order_of_the_file(tmp_path: Path) -> None:
    run = load(tmp_path, "[passes.size]\n[passes.bops]\n[passes.again]\npass = 'size'\n")
    assert list(run.settings.passes) == ["size", "bops", "again"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("seed=7", 7), ("denoiser.name=other", "other"), ('denoiser.name="7"', "7"), ("denoiser.device=cuda:0", "cuda:0")],
)
def test_an_override_is_a_toml_value_or_plain_text(tmp_path: Path, text: str, value: object) -> None:
    assert value in flatten(load(tmp_path, "", text).overrides).values()


def test_an_override_reaches_a_quoted_key(tmp_path: Path) -> None:
    run = load(tmp_path, "", 'passes.quantize."blocks.0.attn"="uaq-4"')
    assert run.overrides == {"passes": {"quantize": {"blocks.0.attn": "uaq-4"}}}


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("sead = 3", (), "run.toml: sead: unknown key; did you mean 'seed'?"),
        ("[denoiser]\nchekpoint = 'x'", (), "run.toml: denoiser.chekpoint: unknown key; did you mean 'checkpoint'?"),
        ("seed = '3'", (), 'run.toml: seed: should be a valid integer, not "3"'),
        ("seed = true", (), "run.toml: seed: should be a valid integer, not true"),
        ("seed = -1", (), "run.toml: seed: should be greater than or equal to 0, not -1"),
        ("", ("seed=x",), 'run.toml, --set seed: should be a valid integer, not "x"'),
        ("", ("samples.imags=2",), "run.toml, --set samples.imags: unknown key; did you mean 'images'?"),
        ("", ("seed",), "--set seed: expected key=value"),
        ("", ("plugins.modules=a",), 'run.toml, --set plugins.modules: should be a list, as in ["a", "b"], not "a"'),
        ("", ("a b=1",), "--set a b=1: 'a b' is no TOML key"),
        ("[passes]\nsize = 3", (), "run.toml: passes.size: should be a table, not 3"),
        ("denoiser = 3", (), "run.toml: denoiser: should be a table, not 3"),
        (
            "[denoiser]\ndtype = 'float64'",
            (),
            "run.toml: denoiser.dtype: should be 'float32', 'float16' or 'bfloat16', not \"float64\"",
        ),
    ],
)
def test_what_is_wrong_becomes_one_line_with_file_and_key(
    tmp_path: Path, text: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    assert str(caught.value) == message


def test_malformed_toml_says_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml: not valid TOML: .*\(at line 2, column \d+\)"):
        load(tmp_path, "seed = 1\n[denoiser\n")


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"run\.toml: cannot be read: .*utf-8"):
        RunFile.load(str(tmp_path / "run.toml"))


def test_a_missing_run_file_names_the_nearest_shipped_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"digit-dit\.toml: no such run file; did you mean 'digits-dit\.toml'\?"):
        RunFile.load("digit-dit.toml")
    with pytest.raises(ConfigError, match="is a folder, expected a TOML file"):
        RunFile.load(str(tmp_path))


def test_a_file_beats_a_shipped_run_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits-dit.toml").write_text("seed = 99\n", encoding="utf-8")
    assert RunFile.load("digits-dit.toml").settings.seed == 99


def test_every_shipped_run_file_is_valid_and_survives_a_round_trip() -> None:
    assert "digits-dit.toml" in shipped()
    for name in shipped():
        file = RunFile.load(name).file
        assert tomllib.loads(to_toml(file)) == file


def test_a_relative_path_is_found_beside_the_run_file_and_then_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (tmp_path / "beside.py").touch()
    (here / "local.py").touch()
    run = load(tmp_path, "[plugins]\nmodules = ['beside.py', 'local.py', 'gone.py', 'package.module']\n")
    found = (str(tmp_path / "beside.py"), str(here / "local.py"), "gone.py", "package.module")
    assert run.settings.plugins.modules == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bank.path=nan", {"bank": {"path": "nan"}}),
        ("bank.path=2024-01-01", {"bank": {"path": "2024-01-01"}}),
        ("bank.path='# x'", {"bank": {"path": "# x"}}),
        ("denoiser.weights=meta", {"denoiser": {"weights": "meta"}}),
        ("search.target=latent-SQNR - 4*avg_bits", {"search": {"target": "latent-SQNR - 4*avg_bits"}}),
        ("denoiser.config=true", {"denoiser": {"config": "true"}}),
        ("denoiser.config={a=1}", {"denoiser": {"config": {"a": 1}}}),
        ("passes.size={}", {"passes": {"size": {}}}),
        ("passes.quantize.default=uaq-2", {"passes": {"quantize": {"default": "uaq-2"}}}),
        ("search.layers.proj=['none']", {"search": {"layers": {"proj": ["none"]}}}),
    ],
)
def test_an_override_is_read_as_its_setting_is(text: str, expected: dict[str, object]) -> None:
    assert RunFile.load("digits-dit.toml", [text]).overrides == expected
