"""The pages' templates. Names, paths and reasons are strangers' text, so everything is escaped but what a view marks as safe."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chameleon_data.views.report.words import format_bytes, format_compact, format_moment, format_whole, shorten_path


def fill_template(name: str, values: dict[str, Any]) -> str:
    """The page that a template of this folder makes of these values."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "whole": format_whole, "compact": format_compact, "size": format_bytes, "ending": shorten_path, "moment": format_moment,
    }  # fmt: skip
    return environment
