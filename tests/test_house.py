"""Files for those who carry on: issue forms, pre-commit hooks, fragments of the changelog."""

import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_issue_forms_have_what_github_wants(form: Path) -> None:
    found = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert found["name"]
    assert found["description"]
    for field in found["body"]:
        assert field["type"] in ("textarea", "input", "dropdown", "markdown", "checkboxes")
        assert field["attributes"]["label"]


def test_pre_commit_runs_the_tools_of_make_check() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    tools = [hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks]
    assert tools == ["ruff", "ruff", "mypy", "lint-imports"]


def test_fragments_are_of_a_kind_that_towncrier_knows() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    kinds = {kind["directory"] for kind in settings["type"]}
    fragments = [path for path in (ROOT / settings["directory"]).iterdir() if path.name not in settings["ignore"]]
    assert [path.name for path in fragments if path.suffix != ".md" or path.stem.rpartition(".")[2] not in kinds] == []
    changelog = (ROOT / settings["filename"]).read_text(encoding="utf-8")
    assert changelog.startswith(settings["start_string"])
