"""The reference pages, made of the code when the site is built: recipe keys, the manifest's fields, the command line.

Four directives. Each writes Markdown and lets Sphinx read it in its own place:

    ```{recipe-keys}    ```{manifest-fields}    ```{command-line}    ```{paths-in-out}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from chameleon_data.jobs.cli import app as command_app
from chameleon_data.recipe import recipe_schema
from chameleon_data.store import paths
from chameleon_data.versions.manifest import manifest_schema

Schema = Mapping[str, Any]
PLAIN_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def recipe_keys(schema: Schema) -> Iterator[str]:
    """Lines of Markdown: the keys of a recipe, by section, each with what it takes, its default and its meaning."""
    defs: Schema = schema["$defs"]
    top = {name: field for name, field in schema["properties"].items() if not _section_of(field)}
    yield from ["## Top level", ""]
    yield from _fields(top, schema["required"], defs)
    yield from _section("Source", defs["Source"], defs)
    for name, field in schema["properties"].items():
        if section := _section_of(field):
            yield from _section(name, defs[section], defs, field.get("description"))
    used = {"Source", *filter(None, map(_section_of, schema["properties"].values()))}
    for name in sorted(defs.keys() - used):
        yield from _section(name, defs[name], defs)


def manifest_fields(schema: Schema) -> Iterator[str]:
    """Lines of Markdown: the fields of a manifest and of the records in it; the recipe's have a page of their own."""
    defs, of_recipe = schema["$defs"], {"Recipe", *recipe_schema()["$defs"]}
    yield from ["## Top level", ""]
    yield from _fields(schema["properties"], schema["required"], defs)
    for name in sorted(defs.keys() - of_recipe):
        if "properties" in defs[name]:
            yield from _section(name, defs[name], defs)


def command_line(command: Any) -> Iterator[str]:
    """Lines of Markdown: the verbs of the command, each with its arguments and options."""
    for name, verb in command.commands.items():
        arguments = [p for p in verb.params if p.param_type_name == "argument"]
        options = [p for p in verb.params if p.param_type_name == "option"]
        usage = [p.metavar if p.required else f"[{p.metavar}]" for p in arguments]
        yield from [f"## {name}", "", _plain(verb.help), ""]
        yield from ["```text", " ".join(["chameleon-data", name, *usage, *(["[OPTIONS]"] if options else [])]), "```", ""]
        for parameter in arguments:
            yield from _term(f"`{parameter.metavar}`", _plain(parameter.help))
        for parameter in options:
            if parameter.name != "help":
                default = parameter.default
                told = f" Default: `{default}`." if isinstance(default, str | int) and not isinstance(default, bool) else ""
                yield from _term(f"`{' '.join([*parameter.opts, *_value_of(parameter)])}`", _plain(parameter.help) + told)
        if verb.epilog:
            example = verb.epilog.removeprefix("Example: ")
            yield from ["```sh", example, "```", ""]


def paths_in_out(docstring: str) -> Iterator[str]:
    """Lines of Markdown: what lies where, as the module that spells every path says it."""
    yield from ["```text", *(line for line in docstring.splitlines()[2:] if line), "```"]


def _value_of(parameter: Any) -> list[str]:
    """What an option takes, as the command's own help shows it."""
    if parameter.is_flag:
        return []
    choices = get_args(parameter.type_descriptor.annotation)
    return ["|".join(choices) if choices else parameter.metavar or parameter.type_descriptor.annotation.__name__.upper()]


def _section(name: str, record: Schema, defs: Schema, description: str | None = None) -> Iterator[str]:
    yield from [f"## {name}", "", _plain(description or record.get("description", "")), ""]
    yield from _fields(record.get("properties", {}), record.get("required", ()), defs)


def _fields(fields: Schema, required: Any, defs: Schema) -> Iterator[str]:
    for name, field in fields.items():
        takes = _takes(field, defs)
        default = f"; default `{_yaml(field['default'])}`" if "default" in field and not _section_of(field) else ""
        needed = "; needed" if name in required else ""
        yield from _term(f"`{name}`", f"{_plain(field.get('description', ''))} *{takes}{default}{needed}*")


def _term(term: str, meaning: str) -> Iterator[str]:
    yield from [term, f": {meaning}", ""]


def _section_of(field: Schema) -> str | None:
    return str(field["$ref"]).rpartition("/")[2] if "$ref" in field else None


def _takes(field: Schema, defs: Schema) -> str:
    """What a field may hold, in words."""
    if name := _section_of(field):
        record = defs[name]
        if "properties" not in record:
            return _takes(record, defs) if record else "any JSON"
        return f"[{name}]({'recipe.md' if name == 'Recipe' else ''}#{'' if name == 'Recipe' else name.lower()})"
    if "const" in field or "enum" in field:
        return " or ".join(f"`{_yaml(value)}`" for value in field.get("enum", [field.get("const")]))
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_takes(one, defs) for one in field["anyOf"]))
    kind = field.get("type")
    if kind == "array":
        return f"list of {_takes(field['items'], defs)}" if "items" in field else "list"
    if kind == "object":
        values = field.get("additionalProperties")
        return f"mapping of names to {_takes(values, defs)}" if isinstance(values, dict) else "mapping"
    if kind == "null":
        return "`null`"
    if kind == "string" and "pattern" in field:
        return "sha256" if "0-9a-f" in field["pattern"] else "number with a unit"
    bounds = [f"{word} {_number(field[key])}" for key, word in BOUNDS.items() if key in field]
    return " ".join([PLAIN_TYPES.get(kind, "any JSON"), *bounds])


def _number(value: float) -> str:
    exponent = int(value).bit_length() - 1
    return f"2^{exponent}" if value == 2**exponent and exponent > 20 else f"{value:g}" if value < 10**6 else f"{value:,}"


def _yaml(value: Any) -> str:
    """A default as a recipe spells it."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 2**20 and value % 2**20 == 0:
        return f"{value // 2**20}MiB"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")


def _plain(text: str | None) -> str:
    """A docstring as one line, with nothing in it that Markdown would take for markup."""
    parts = " ".join((text or "").split()).split("`")  # every second one is code
    return "`".join(part if at % 2 else re.sub(r"([<>*\[\]|])", r"\\\1", part) for at, part in enumerate(parts))


def spell_signature(
    app: Sphinx, kind: str, name: str, what: object, options: object, takes: str | None, gives: str | None
) -> tuple[str, str | None] | None:
    """numpy's ArrayLike by that name, and not as the seven types that it stands for."""
    types = r"[~\w.]*_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]"
    return (re.sub(types, "ArrayLike", takes), gives) if takes else None


def spell_docstring(app: Sphinx, kind: str, name: str, what: object, options: object, lines: list[str]) -> None:
    """A docstring as reStructuredText reads it: code in double backticks, and no address of an e-mail in OUT@V."""
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line).replace("OUT@", r"OUT\@") for line in lines]


class FromCode(SphinxDirective):
    """Writes the Markdown of one reference."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # the code may have changed where the page has not
        lines = {
            "recipe-keys": lambda: recipe_keys(recipe_schema()),
            "manifest-fields": lambda: manifest_fields(manifest_schema()),
            "command-line": lambda: command_line(typer.main.get_command(command_app)),
            "paths-in-out": lambda: paths_in_out(paths.__doc__ or ""),
        }[self.name]()
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    for name in ("recipe-keys", "manifest-fields", "command-line", "paths-in-out"):
        app.add_directive(name, FromCode)
    app.connect("autodoc-process-docstring", spell_docstring)
    app.connect("autodoc-process-signature", spell_signature)
    return {"parallel_read_safe": True}
