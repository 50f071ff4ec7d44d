"""JSON schemas of recipes and records: the lines under the fields of a class are the descriptions of its keys.

pydantic reads such lines itself where a class says `use_attribute_docstrings`, whenever the class is made. That parsed the source
of 60 classes in each process, for what `chameleon-data schema` alone prints: .5 of the 2.6 s of a small build on a busy machine.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue


class DescribedJsonSchema(GenerateJsonSchema):
    """A schema whose keys have the lines under their fields, inherited ones too. Fields have no titles, which would repeat the
    keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        return _describe_keys(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        return _describe_keys(super().dataclass_schema(schema), schema["cls"])


def _describe_keys(schema: JsonSchemaValue, kind: type) -> JsonSchemaValue:
    lines = {name: line for base in reversed(kind.__mro__) for name, line in _lines_under_fields(base)}
    for name, key in _keys(kind):
        if name in lines and key in schema.get("properties", {}):
            schema["properties"][key].setdefault("description", lines[name])
    return schema


def _keys(kind: type) -> Iterator[tuple[str, str]]:
    """(field, key) of each."""
    if issubclass(kind, BaseModel):
        yield from ((name, field.alias or name) for name, field in kind.model_fields.items())
    elif is_dataclass(kind):
        yield from ((field.name, field.name) for field in fields(kind))


def _lines_under_fields(kind: type) -> Iterator[tuple[str, str]]:
    """(field, text) for each string that stands under a field of this very class."""
    if kind in (object, BaseModel):
        return
    parsed = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    body = [statement for definition in parsed if isinstance(definition, ast.ClassDef) for statement in definition.body]
    for field, under in pairwise(body):
        match field, under:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
