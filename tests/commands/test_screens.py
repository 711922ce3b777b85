"""What people see, at two widths: whole screens against files, with what differs from run to run left out.

``Q2_SCREENS=write`` writes the files anew; look at them before they are kept.
"""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from q2 import cli
from q2.commands.screen import Screen
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
from tests.commands.test_trials import RUN, TRIALS

SCREENS = Path(__file__).parent / "screens"
SMALL = ("--set", "samples.images=0", "--set", "passes.stats.samples=0")
SEARCH = (
    "--strategy", "random", "--set", "search.target=-quantized_error - 5*avg_bits",
    "--set", "search.evaluation.fidelity=weights",
    "--set", "search.engine.workers=1", "--set", 'search.options=["uaq-4", "none"]', "--trials", "3",
)  # fmt: skip
Run = Callable[..., str]


@pytest.fixture
def q2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*args: str, width: int = 100) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["q2", *args])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        assert not stop.value.code, said.err
        return said.out

    return run


def plain(text: str) -> str:
    """Return a screen without seconds and the time that is left."""
    text = re.sub(r"(?m)^(.{12}) *\d+\.\d s   ", r"\1    0.0 s   ", text)
    text = re.sub(r"  eta [\d:]+", "", text)
    return re.sub(r"\d+% of the time", "0% of the time", text)


@pytest.fixture
def bank(one_option_bank: Path, tmp_path: Path) -> Path:
    """The bank where it is looked for."""
    place = tmp_path / "bank" / "digits-dit"
    place.parent.mkdir()
    place.symlink_to(one_option_bank)
    return place


def is_as_kept(name: str, text: str, width: int) -> None:
    """Compare a screen with its file; the command to be pasted alone may be wider than the screen."""
    file = SCREENS / f"{name}-{width}.txt"
    if os.environ.get("Q2_SCREENS") == "write":
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("next: ")]
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [80, 200])
def test_a_transforms_screen(q2: Run, bank: Path, width: int) -> None:
    passes = "".join(f"[passes.{name}]\n" for name in ("bops", "size", "report"))
    text = f'seed = 3\n[passes.quantize]\ndefault = "uaq-4"\n{passes}'
    Path("mine.toml").write_text(text, encoding="utf-8")
    said = q2("transform", "--config", "mine.toml", "--set", "samples.batch=50", "--out", "run", width=width)
    is_as_kept("transform", plain(said), width)


def test_a_searchs_screen_its_log_and_its_json(q2: Run, bank: Path) -> None:
    """Three calls with one folder: the second has more trials, the third none that is not measured yet."""
    args = ("search", *SEARCH, "--out", "mine")
    said = q2(*args, width=80)
    is_as_kept("search", plain(said), 80)
    assert said.count("\n") <= 40
    first = [line for line in said.splitlines() if line.startswith("trial ")]
    assert [line.split()[1] for line in first] == ["1/3", "2/3", "3/3"]
    logged = Path("mine/log.txt").read_text(encoding="utf-8").splitlines()
    assert [line[21:] for line in logged if "  trial " in line] == first

    said = q2(*args, "--trials", "5", width=200)
    is_as_kept("search", plain(said), 200)
    more = [line for line in said.splitlines() if line.startswith("trial ")]
    assert more[-1].split()[1] == "5/5"
    again = Path("mine/log.txt").read_text(encoding="utf-8").splitlines()
    assert again[: len(logged)] == logged
    assert [line[21:] for line in again if "  trial " in line] == [*first, *more]

    found = json.loads(q2(*args, "--trials", "5", "--json"))
    report = json.loads(Path("mine/report.json").read_text(encoding="utf-8"))
    keys = ("verdict", "front", "baselines", "full precision", "beaten")
    assert {key: found[key] for key in keys} == {key: report[key] for key in keys}


@pytest.mark.parametrize("width", [80, 200])
def test_the_screen_of_trials(q2: Run, tmp_path: Path, width: int) -> None:
    store = TrialStore.open(tmp_path / "run" / "trials", RUN)
    store.extend(TRIALS)
    more = {f"metric-{i}": float(i) for i in range(8)} | {"avg_bits": 4.0}
    store.extend([Trial({"a": "uaq-5"}, more, {}, "forward", 3, 0, 1.5, "other")])  # number 0 is there twice
    said = q2("trials", "ls", "run", width=width)
    is_as_kept("trials", said, width)
    first = [line.split()[0] for line in said.splitlines() if line.startswith("  ") and line.split()[0][0] in "#0123"]
    for name in dict.fromkeys(first):
        assert "uaq" in q2("trials", "show", "run", name) or "none" in q2("trials", "show", "run", name)


@pytest.mark.parametrize("width", [80, 200])
def test_the_screen_of_a_list(q2: Run, width: int) -> None:
    is_as_kept("list", q2("list", "engines", width=width), width)


def test_every_list_and_setting_fits_eighty_columns(q2: Run) -> None:
    for args in (("config", "show"), ("list", "passes", "--options"), ("list", "strategies", "--options")):
        assert max(map(len, q2(*args, width=80).splitlines())) <= 80
    said = q2("list", "strategies", "--options", width=100)
    assert re.search(r"evolution +population +50 +Recipes per round", said)


def test_quiet_prints_results_alone_and_json_is_for_programs(q2: Run, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Screen(quiet=True)
    quiet.say("load 3 s")
    quiet.table(["layer"], [["proj"]])
    quiet.table(["recipe"], [["front-0.toml"]], result=True)
    quiet.result("written: run/")
    assert capsys.readouterr().out.split() == ["recipe", "------------", "front-0.toml", "written:", "run/"]
    programs = Screen(json=True)
    programs.result("written: run/")
    programs.report({"value": float("nan")})
    assert json.loads(capsys.readouterr().out) == {"value": None}
    assert {row["name"] for row in json.loads(q2("list", "engines", "--json"))} >= {"local", "ray"}


def test_long_tables_say_where_the_rest_is_and_verbose_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"layer-{i}"] for i in range(30)]
    Screen().table(["layer"], rows, limit=8, rest="-v shows them")
    assert capsys.readouterr().out.splitlines()[-2].strip() == "… 22 more rows: -v shows them"
    Screen(verbose=True).table(["layer"], rows, limit=8)
    assert "layer-29" in capsys.readouterr().out


def test_the_next_command_can_be_pasted(q2: Run, one_option_bank: Path) -> None:
    import shlex

    said = q2("search", *SEARCH, "--set", f"bank.path={one_option_bank}", "--set", "seed=9", "--out", "my runs/it's")
    (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
    assert shlex.split(line)[1:] == [
        "q2", "transform", "--set", f"bank.path={one_option_bank}", "--set", "seed=9",
        "--recipe", "my runs/it's/recipe.toml", "--save", "my runs/it's/packed",
    ]  # fmt: skip
    again = q2(*shlex.split(line)[2:], *SMALL, "--out", "t")
    (line,) = [line for line in again.splitlines() if line.startswith("next: ")]
    words = shlex.split(line)
    assert words[1:5] == ["q2", "sample", "--from", "my runs/it's/packed"]
    assert words[5:7] == ["--class-id", "3"]


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_on_a_terminal_alone_and_no_color_turns_it_off(
    tmp_path: Path, environment: dict[str, str], coloured: bool
) -> None:
    code = "from q2.commands.screen import screen\nscreen().result('chosen: front-0.toml')\nscreen().result('plain')"
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    try:
        subprocess.run([sys.executable, "-c", code], stdout=theirs, check=True, env=clean | environment)
        said = os.read(ours, 4096).decode().splitlines()
    finally:
        os.close(theirs)
        os.close(ours)
    assert ("\x1b[32m" in said[0]) == coloured
    assert said[1] == "plain"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=clean, text=True)
    assert "\x1b" not in piped.stdout


def test_something_moves_on_a_terminal_before_torch_is_there() -> None:
    code = (
        "import sys, time\nfrom q2.commands.screen import screen\n"
        "with screen().working() as progress:\n    time.sleep(0.5)\n"
        "    for _ in progress([1, 2], 'random', 2, lambda item: f'best {item}'):\n        time.sleep(0.3)\n"
        "print([name for name in ('torch', 'numpy') if name in sys.modules])\n"
    )
    ours, theirs = pty.openpty()
    clean = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, check=True, env=clean, text=True
        )
        said = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.stdout == "[]\n"
    assert "working" in said
    assert "1/2" in said
    assert "best 1" in said


def test_config_init_cat_and_schema(q2: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert q2("config", "init", "sdxl", "--out", "mine.toml").splitlines() == [
        "written: mine.toml",
        "next:    q2 transform --config mine.toml",
    ]
    assert q2("config", "cat", "sdxl.toml") == Path("mine.toml").read_text(encoding="utf-8")
    schema = json.loads(q2("config", "schema"))
    assert schema["properties"]["passes"]["properties"]["stats"]["properties"]["samples"]["type"] == "integer"
    evolution = schema["$defs"]["SearchSettings"]["properties"]["strategies"]["properties"]["evolution"]
    assert evolution["additionalProperties"] is False
    monkeypatch.setattr(sys, "argv", ["q2", "config", "init", "--out", "mine.toml"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("setting", "there"),
    [
        ("search.engine.name=slurm", "no engine named 'slurm' (there are: local, ray)"),
        ("search.strategy=zzz", "no strategy named 'zzz' (there are: random, "),
        ('bank.options=["zzz-4"]', "no quantizer named 'zzz' in 'zzz-4' (there are: "),
        ("search.target=zzz", "unknown metric 'zzz' (there are: "),
        ("passes.zzz={}", "no pass named 'zzz' (there are: "),
    ],
)
def test_what_is_not_there_is_said_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], setting: str, there: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["q2", "search", "--dry-run", "--set", setting])
    with pytest.raises(SystemExit):
        cli.main()
    assert there in capsys.readouterr().err
