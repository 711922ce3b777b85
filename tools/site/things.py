"""What a run file can name, as Markdown: settings, passes, quantizers, denoisers, exporters, metrics, and so on."""

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pydantic

from q2 import errors
from q2.config import Settings
from q2.denoisers.kinds import DENOISERS
from q2.descriptions import descriptions
from q2.exporters.kinds import EXPORTERS
from q2.passes.base import TransformPass
from q2.passes.kinds import PASSES
from q2.plugins import Kind, Plugins, spec
from q2.quant.kinds import QUANTIZERS
from q2.search.kinds import ENGINES, METRICS, STRATEGIES
from q2.settings import keys_of
from tools.site.markdown import code, default, first, linked, table, text_of

__all__ = [
    "KINDS",
    "denoisers_table",
    "errors_table",
    "hooks_table",
    "loaded",
    "metrics_table",
    "options_page",
    "options_rows",
    "passes_page",
    "plain_table",
    "quantizers_table",
    "sections",
    "setting_names",
    "settings_page",
]

KINDS: tuple[Kind[Any], ...] = (PASSES, QUANTIZERS, DENOISERS, EXPORTERS, METRICS, STRATEGIES, ENGINES)


def loaded(kind: Kind[Any]) -> dict[str, type[Any]]:
    """Return the classes of a kind that q2 itself offers, by name."""
    catalogue = Plugins(entry_points=False).of(kind)
    return {name: catalogue.load(name) for name in catalogue}


def sections(kind: type[pydantic.BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and class of every section of a run file, the whole file's first."""
    yield prefix, kind
    for name, info in keys_of(kind).items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, pydantic.BaseModel):
            yield from sections(info.annotation, f"{prefix}.{name}".lstrip("."))


def setting_names() -> list[str]:
    """Return the dotted names of all settings.

    >>> setting_names()[:2]
    ['seed', 'prec']
    """
    inner = {kind for _, kind in sections()}
    return [
        f"{prefix}.{key}".lstrip(".")
        for prefix, kind in sections()
        for key, info in keys_of(kind).items()
        if info.annotation not in inner
    ]


def settings_page() -> str:
    """Return a section for every table of a run file, with its keys, defaults and meanings."""
    parts = []
    for prefix, kind in sections():
        meaning, rows = descriptions(kind), []
        for key, info in keys_of(kind).items():
            if isinstance(info.annotation, type) and issubclass(info.annotation, pydantic.BaseModel):
                continue
            name = next(name for name, each in kind.model_fields.items() if each is info)
            text = " ".join([meaning[name], _choices(info.annotation, meaning[name])])
            rows.append([code(key), default(info.default), linked(text)])
        parts += [f"### [{prefix}]" if prefix else "### Top level", text_of(kind).replace("``", "`")]
        parts.append(table(["key", "default", "meaning"], rows))
    return "\n\n".join(parts)


def _choices(kind: object, text: str) -> str:
    """Return a sentence with the words that a setting may be, unless its text says them."""
    words = get_args(kind) if get_origin(kind) is Literal else ()
    return "" if all(str(word) in text for word in words) else f"One of {', '.join(map(code, words))}."


def options_rows(kind: type[Any]) -> list[list[str]]:
    """Return a row for every option of a pass or strategy: its name, default and meaning."""
    meaning, rows = descriptions(kind), []
    for entry in dataclasses.fields(kind):
        given: object = entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
        name = "any other key" if entry.name == "rules" else code(entry.name)
        text = meaning[entry.name]
        if get_origin(entry.type) is Literal:
            text = f"{text} {_choices(entry.type, text)}"
        rows.append([name, "" if entry.name == "rules" else default(given), linked(text)])
    return rows


def passes_page() -> str:
    """Return a section for every pass: what it does, whether it changes the model, and its options."""
    parts = []
    for name, kind in loaded(PASSES).items():
        notes = ["A transform" if issubclass(kind, TransformPass) else "An analysis"]
        notes += ["run again for every recipe of a search"] if getattr(kind, "per_recipe", False) else []
        notes += ["needs weights"] if kind.needs_weights else []
        requires = [code(each) for each in kind.requires]
        notes += [f"requires {', '.join(requires)}"] if requires else []
        parts += [f"### {name}", f"*{', '.join(notes)}.*", text_of(kind)]
        rows = options_rows(kind)
        parts += [table(["option", "default", "meaning"], rows)] if rows else []
    return "\n\n".join(parts)


def options_page(kind: Kind[Any]) -> str:
    """Return a section for every strategy or engine, with its options where it has some."""
    parts = []
    for name, each in loaded(kind).items():
        parts += [f"### {name}", text_of(each)]
        rows = options_rows(each) if dataclasses.is_dataclass(each) else []
        parts += [table(["option", "default", "meaning"], rows)] if rows else []
    return "\n\n".join(parts)


def plain_table(kind: Kind[Any]) -> str:
    """Return a table of names with what they are."""
    return table(["name", "what it is"], [[code(name), linked(first(each))] for name, each in loaded(kind).items()])


def quantizers_table() -> str:
    """Return a section for every quantizer."""
    parts = []
    for name, kind in loaded(QUANTIZERS).items():
        parts += [f"### {name}", text_of(kind)]
    return "\n\n".join(parts)


def denoisers_table() -> str:
    """Return a table of denoisers: what each is, where its weights come from, and how its images are made."""
    rows = []
    for name, kind in loaded(DENOISERS).items():
        steps, guidance = kind.protocol.steps, kind.protocol.guidance
        source = kind.default_checkpoint()
        source = "the package" if Path(source).exists() else code(source)
        rows.append([code(name), linked(first(kind)), source, f"{steps} steps, guidance {guidance:g}"])
    return table(["name", "what it is", "weights come from", "protocol"], rows)


def metrics_table() -> str:
    """Return a table of metrics: which way is better, the unit, the cheapest fidelity, and what each is."""
    fidelity = {"free": "`weights`", "forward": "`forward`", "images": "images"}
    rows = [
        [code(name), kind.better, fidelity[kind.cost], kind.unit, first(kind)] for name, kind in loaded(METRICS).items()
    ]
    return table(["name", "better", "fidelity", "unit", "what it is"], rows)


def hooks_table() -> str:
    """Return a table of hooks with their arguments."""
    found = {name: hook for name, hook in vars(spec).items() if name.startswith("q2_")}
    rows = [
        [code(f"{name}({', '.join(inspect.signature(hook).parameters)})"), linked(first(hook))]
        for name, hook in found.items()
    ]
    return table(["hook", "what it does"], rows)


def errors_table() -> str:
    """Return a table of the classes of errors."""
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.Q2Error)]
    rows = [[code(each.__name__), code(each.__base__.__name__), first(each)] for each in found if each.__base__]
    return table(["error", "is a", "when"], rows)
