"""The JSON schema of run files, with the options of every pass and strategy that there is."""

from dataclasses import fields
from typing import Any, get_args

import pydantic

from q2.config import Settings, Table
from q2.descriptions import descriptions
from q2.passes.kinds import PASSES
from q2.plugins import Plugins
from q2.search.kinds import STRATEGIES

__all__ = ["json_schema"]


def json_schema(plugins: Plugins) -> Table:
    """Return the schema, draft 2020-12, of what a run file can say. A key that q2 does not know is no part of it.

    >>> found = json_schema(Plugins(entry_points=False))
    >>> found["properties"]["seed"]["default"], "quantize" in found["properties"]["passes"]["properties"]
    (0, True)
    >>> found["properties"]["seed"]["description"]
    'The seed of every random choice.'
    """
    schema: Table = Settings.model_json_schema()
    for section in _sections(Settings):
        meaning = descriptions(section)
        table = schema if section is Settings else schema["$defs"][section.__name__]
        for key, info in section.model_fields.items():
            if key in meaning:
                table["properties"][info.alias or key]["description"] = meaning[key]
    schema |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "q2 run file"}
    steps, strategies = plugins.of(PASSES), plugins.of(STRATEGIES)
    schema["properties"]["passes"]["properties"] = {name: _options(steps.load(name), rules=True) for name in steps}
    tables = schema["$defs"]["SearchSettings"]["properties"]["strategies"]
    tables["properties"] = {name: _options(strategies.load(name)) for name in strategies}
    return schema


def _sections(kind: type[pydantic.BaseModel]) -> set[type[pydantic.BaseModel]]:
    """Return a section and all sections in it, also those in lists and tables."""
    found = {kind}
    for info in kind.model_fields.values():
        for inner in (info.annotation, *get_args(info.annotation)):
            if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
                found |= _sections(inner)
    return found


def _options(kind: type[Any], *, rules: bool = False) -> Table:
    """Return the schema of a pass's or strategy's table; a pass that takes `rules` has further keys."""
    table: Table = {"type": "object", "description": (kind.__doc__ or "").partition("\n")[0], "properties": {}}
    meaning = descriptions(kind)
    for entry in fields(kind):
        if entry.name == "rules":
            continue
        try:
            found = pydantic.TypeAdapter(kind.__annotations__.get(entry.name, entry.type)).json_schema()
        except (pydantic.PydanticUserError, pydantic.errors.PydanticSchemaGenerationError, TypeError, NameError):
            found = {}
        found.pop("$defs", None)
        table["properties"][entry.name] = {} if "$ref" in str(found) else found
        if entry.name in meaning:
            table["properties"][entry.name] |= {"description": meaning[entry.name]}
    takes_more = rules and any(entry.name == "rules" for entry in fields(kind))
    if not takes_more:
        table["properties"] |= {"pass" if rules else "strategy": {"type": "string"}}
        table["additionalProperties"] = False
    return table
