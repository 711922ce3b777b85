"""``q2 predictor build``, ``show`` and ``reduce``: what is made of labels."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from q2.commands.console import paste, text_table
from q2.commands.screen import screen
from q2.errors import ConfigError

if TYPE_CHECKING:
    from q2.search.predictor.ranking import RankedVariant

__all__ = ["build", "reduce", "show"]


class Level(StrEnum):
    """Whose scores count."""

    unit = "unit"
    node = "node"


class Order(StrEnum):
    """What rows are sorted by."""

    order = "order"
    name = "name"
    score = "score"
    spread = "spread"
    avg_bits = "avg_bits"


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


_LABELS = "What q2 predictor label or a search wrote, or its folder; several are summed after normalization."
Labels = Annotated[list[Path], typer.Option("--labels", help=f"{_LABELS} Repeatable.")]
AtLevel = Annotated[Level, typer.Option(help="Variants of units, or options of layers alone.")]


def build(
    labels: Labels,
    level: AtLevel = Level.unit,
    constraint: Annotated[
        list[str] | None, typer.Option(help="A bound such as 'bops <= 5'; repeatable.", show_default="none")
    ] = None,
    avg_bits: Annotated[float | None, typer.Option(help="Within so many bits a weight: a constraint in short.")] = None,
    budgets: Annotated[str, typer.Option(help="A front: a recipe for each of these budgets, with commas.")] = "",
    front: Annotated[int, typer.Option(min=0, help="A front of up to so many recipes, evenly spaced.")] = 0,
    metric: Annotated[str, typer.Option(help="What a front's budgets are of.")] = "avg_bits",
    out: Annotated[
        Path | None, typer.Option(help="The file; of a front numbered.", show_default="recipe.toml beside the labels")
    ] = None,
) -> None:
    """Build the recipe that labels say is best, exactly: without bounds, within constraints, or a whole front."""
    if budgets and front:
        raise ConfigError("--budgets and --front: give only one of them")
    bounds = [*(constraint or ()), *([f"avg_bits <= {avg_bits!r}"] if avg_bits is not None else [])]
    values = _numbers(budgets)
    from q2.session.labels import build_recipes, read_scores

    scores = read_scores(labels, level.value)
    folder = labels[0] if labels[0].is_dir() else labels[0].parent
    file = out or _unused(folder / ("front.toml" if values or front else "recipe.toml"))
    made = build_recipes(scores, file, bounds, metric=metric, budgets=values, count=front)
    shown = screen()
    rows = [
        {"file": str(path), "within": each.within, "score": each.score, **each.costs}
        for path, each in zip(made.files, made.built, strict=True)
    ]
    shown.report({"made": str(scores), "recipes": rows})
    shown.wrapped("labels       ", str(scores))
    text_table(made.table, limit=None, result=True)
    shown.paths("written: ", made.files)
    paste("transform", "--recipe", made.files[0])


def show(
    labels: Labels,
    level: AtLevel = Level.unit,
    match: Annotated[str, typer.Option(help="Units, kinds of units or layers that this expression is found in.")] = "",
    option: Annotated[str, typer.Option(help="Variants that have this option somewhere.")] = "",
    top: Annotated[int, typer.Option(min=0, help="So many of every unit or layer, the best first; 0: all.")] = 1,
    sort: Annotated[Order, typer.Option(help="order: as the denoiser runs; scores and spreads: highest first.")] = (
        Order.order
    ),
    limit: Annotated[int, typer.Option(min=0, help="So many rows; 0: all.")] = 0,
    format: Annotated[Format, typer.Option(help="Of what is printed, or of --out.")] = Format.table,  # noqa: A002
    out: Annotated[Path | None, typer.Option(help="The .csv or .json file to write.", show_default="print")] = None,
) -> None:
    """List units with their variants, or layers with their options, and the scores that labels give them."""
    if out is not None and format is Format.table:
        if out.suffix not in (".csv", ".json"):
            raise ConfigError(f"--out {out}: expected a name that ends in .csv or .json, or --format")
        format = Format(out.suffix[1:])  # noqa: A001
    from q2.search.predictor.ranking import ranked
    from q2.session.labels import read_scores

    scores = read_scores(labels, level.value)
    rows = ranked(scores.space, scores.parts, match=match, option=option, top=top, sort=sort.value)
    rows = rows[: limit or None]
    shown = screen()
    if format is Format.table:
        shown.report({"made": str(scores), "rows": [row.row() for row in rows]})
        shown.wrapped("labels       ", str(scores))
        _table(rows, verbose=shown.verbose)
        return
    text = _csv(rows) if format is Format.csv else _json(rows)
    if out is None:
        sys.stdout.write(text)
        return
    from q2.files import write_text
    from q2.session.report import writing

    with writing(out, "--out"):
        write_text(out, text)
    shown.result(f"written: {out}  {len(rows)} rows")


def reduce(
    labels: Labels,
    top: Annotated[int, typer.Option(min=1, help="How many variants of every unit, or options of every layer.")],
    level: AtLevel = Level.unit,
    union: Annotated[
        bool, typer.Option("--union", help="Of several files what is best by any, not by their sum.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The file.", show_default="top-K.toml beside the labels")] = None,
) -> None:
    """Keep the best variants of every unit, or options of every layer, as a space to search in."""
    from q2.session.labels import read_scores, reduce_space, sizes_of

    scores = read_scores(labels, level.value)
    folder = labels[0] if labels[0].is_dir() else labels[0].parent
    file = out or folder / f"top-{top}.toml"
    space = reduce_space(scores, top, union=union)
    space.save(file)
    before, after = sizes_of(scores, space)
    shown = screen()
    shown.report({"file": str(file), "made": space.made, "recipes": after, "of": before})
    shown.wrapped("labels       ", str(scores))
    shown.result(f"{_power(after)} of {_power(before)} recipes")
    shown.result(f"written: {file}")
    paste("search", "--strategy", "evolution", "--set", f"search.space={file}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(f"--budgets {text}: expected numbers with commas, such as 3,3.5,4") from None


def _unused(path: Path) -> Path:
    """Return a file's name if there is none, else the first of ``-2``, ``-3``, … that is free."""
    names = (path.with_stem(f"{path.stem}-{n}") for n in range(2, 10_000))
    return next(name for name in (path, *names) if not name.exists())


def _power(count: int) -> str:
    from decimal import Decimal

    return f"{count:,}" if count < 10**6 else f"{Decimal(count):.1e}".replace("+", "")


def _table(rows: "list[RankedVariant]", *, verbose: bool) -> None:
    headers = ["name", "rank", "score", "sd", "spread", "avg_bits", "options", *(["layers"] if verbose else [])]
    cells = []
    for row in rows:
        numbers = [f"{row.rank}/{row.of}", *(f"{x:.4g}" for x in (row.score, row.sd, row.spread, row.avg_bits))]
        cells.append([row.name, *numbers, " ".join(row.options), *([" ".join(row.layers)] if verbose else [])])
    screen().table(headers, cells, result=True)


def _csv(rows: "list[RankedVariant]") -> str:
    import csv
    import io

    from q2.search.predictor.ranking import RankedVariant

    text = io.StringIO()
    writer = csv.DictWriter(text, RankedVariant.columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.row() for row in rows)
    return text.getvalue()


def _json(rows: "list[RankedVariant]") -> str:
    import json
    from dataclasses import asdict

    from q2.files import plain

    return json.dumps(plain([asdict(row) for row in rows]), indent=2, ensure_ascii=False) + "\n"
