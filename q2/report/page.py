"""The HTML of a report: one file with its scripts, styles, data and pictures, opened without a network.

Everything that comes from a run (layer names, prompts, errors) is escaped: by Jinja2 in text, and in data.
Charts are Vega-Lite's (Satyanarayan et al., InfoVis'17), whose scripts lie in ``assets``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from q2.errors import Q2Error, why
from q2.files import replacing
from q2.report.comparison import comparison_page
from q2.report.evaluation import evaluation_page
from q2.report.folder import Kind, RunFolder
from q2.report.modules import module_search_page
from q2.report.parts import Chart, Pair, Picture, Section, Summary, Table, picture
from q2.report.search import SearchPage
from q2.report.transform import sample_page, transform_page
from q2.version import version

__all__ = ["page_of", "render", "write_report"]

_SCRIPTS = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js", "page.js")


def page_of(run: RunFolder, graph: Path | None = None) -> Summary:
    """Return what a run's page says, settings and versions at its end; `graph` is its flow graph as SVG or PNG.

    Raises `Q2Error`.
    """
    makers: dict[Kind, Callable[[RunFolder], Summary]] = {
        "search": lambda run: module_search_page(run) if "model" in run.report else SearchPage(run).page(),
        "compare": comparison_page,
        "evaluate": evaluation_page,
        "transform": transform_page,
        "samples": sample_page,
    }
    page = makers[run.kind](run)
    flow = [Section("Flow graph", [picture(graph, "the flow graph, coloured by bits")])] if graph else []
    return replace(page, sections=[*page.sections, *flow, *_settings(run)])


def render(pages: Sequence[Summary]) -> str:
    """Return the HTML of one or several pages in one file."""
    import jinja2

    assets = files("q2.report") / "assets"
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    kinds = {"table": Table, "chart": Chart, "picture": Picture, "pair": Pair}
    environment.tests |= {name: lambda part, kind=kind: isinstance(part, kind) for name, kind in kinds.items()}
    environment.tests["number"] = lambda cell: isinstance(cell, (int, float))
    template = environment.from_string((assets / "page.html").read_text(encoding="utf-8"))
    texts = {name: (assets / name).read_text(encoding="utf-8") for name in (*_SCRIPTS, "page.css")}
    scripts = [texts[name] for name in _SCRIPTS]
    return template.render(pages=pages, scripts=scripts, style=texts["page.css"], version=version())


def write_report(folders: Sequence[Path], out: Path, graphs: Mapping[Path, Path] | None = None) -> int:
    """Write the report of runs into the file `out`; return its bytes. `graphs` are pictures of flow graphs, by folder.

    Raises `Q2Error`, one line: a folder that is no run's, a file in it that cannot be read, `out` cannot be written.
    """
    drawn = graphs or {}
    html = render([page_of(RunFolder(folder), drawn.get(folder)) for folder in folders]).encode()
    try:
        with replacing(out) as beside:
            beside.write_bytes(html)
    except OSError as error:
        raise Q2Error(f"--out {out}: cannot be written: {why(error)}") from error
    return len(html)


def _settings(run: RunFolder) -> list[Section]:
    """Return settings, versions and machine as tables."""
    from q2.config import dotted, flatten

    parts = []
    if run.settings:
        rows = [[dotted(key), str(value)] for key, value in flatten(run.settings).items()]
        parts.append(Table(["setting", "value"], rows, "", long=True))
    if run.manifest:
        facts = {key: value for key, value in run.manifest.items() if key != "plugins"}
        parts.append(Table(["version or machine", ""], [[dotted(k), str(v)] for k, v in flatten(facts).items()]))
    return [Section("Settings, versions, machine", parts, f"From {run.path.resolve().name}/.")] if parts else []
