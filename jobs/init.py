"""`chameleon-data init`: a recipe for what lies in a folder, written for a person to read, correct and build."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chameleon_data.corpus.propose import Proposal, ProposedSource, propose_sources
from chameleon_data.errors import InputError, explaining
from chameleon_data.jobs.screen import count_noun, make_table, out, print_note, print_table
from chameleon_data.recipe_file import parse_recipe
from chameleon_data.views.report.words import format_bytes

PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./*")
"""Characters of which YAML needs no quotes."""
WORDS = ("true", "false", "null", "yes", "no", "on", "off", "")
COMMENT_WIDTH = 110


def write_first_recipe(folder: str, to: str | None) -> tuple[Path, Proposal]:
    """Look at a folder and write a recipe of it. Raises InputError where the recipe's file is there already."""
    proposal = propose_sources(folder if "://" in folder else str(Path(folder).resolve()))
    name = proposal.folder.rstrip("/").rpartition("/")[2] or "corpus"
    file = Path(to) if to else Path(f"{name}.yaml")
    with explaining(str(file), {OSError: lambda error: f"cannot be written ({error.strerror}); choose another place with --to"}):
        file.parent.mkdir(parents=True, exist_ok=True)
        text = _render(name, proposal, file.resolve().parent)
        try:
            with file.open("x", encoding="utf-8") as new:
                new.write(text)
        except FileExistsError:
            raise InputError(f"{file}: is there already; choose another file with --to, or delete it first") from None
    return file, proposal


def describe_first_recipe(file: Path, proposal: Proposal) -> dict[str, Any]:
    """What `init --json` prints."""
    return {"recipe": str(file), **asdict(proposal)}


def print_first_recipe(file: Path, proposal: Proposal) -> None:
    """What was found, what is doubtful, and what to type next."""
    table = make_table("source", ">files", ">size", "format", "?text", "?domain", "begins")
    for source in proposal.sources:
        files, size = f"{source.files:,}", format_bytes(source.bytes)
        table.add_row(source.name, files, size, ", ".join(source.formats), source.text, source.domain, source.example)
    print_table(table)
    for source in proposal.sources:
        for note in source.notes:
            print_note(f"sources.{source.name}: {note}")
    for reason, count in proposal.left_out.items():
        print_note(f"left out {count_noun(count, 'file')}: {reason}")
    out.print(f"\nwrote {file}; read it, correct it, then:\n", soft_wrap=True)
    out.print(f"  chameleon-data plan {file}", soft_wrap=True)
    out.print(f"  chameleon-data build {file}", soft_wrap=True)


def _render(name: str, proposal: Proposal, beside: Path) -> str:
    """The recipe as text. Paths are relative to `beside`, its folder, where they lie below it."""
    inside = [path for source in proposal.sources for path in source.paths]
    place = beside
    while any(_lies_in(place / "out", path) for path in inside):
        place = place.parent
    lines = [
        f"# What lies in {_one_line(proposal.folder)}, by its names and its first rows. Correct what is wrong.",
        "# `chameleon-data schema recipe` prints every other key, with its default and what it means.",
        "",
        f"name: {_scalar(name)}",
        f"out: {_scalar(_relative(str(place / 'out' / name), beside))}",
        "",
        "sources:",
    ]
    for source in proposal.sources:
        lines += _render_source(source, beside)
    for reason, count in proposal.left_out.items():
        lines += _comment(f"left out: {count_noun(count, 'file')}, {reason}", "  ")
    lines += ["", "mix:", "  budget: auto                      # tokens (bytes) to write; or a number such as 2GB, 40M", ""]
    text = "\n".join(lines)
    parse_recipe(text, beside, "the recipe")  # a fault of ours would show here, and not to whoever builds it
    return text


def _render_source(source: ProposedSource, beside: Path) -> list[str]:
    about = f"{count_noun(source.files, 'file')}, {format_bytes(source.bytes)}, {', '.join(source.formats)}"
    if source.characters:
        about += f"; texts of {source.characters:,} characters on average"
    paths = [_scalar(_relative(path, beside)) for path in source.paths]
    lines = [f"  {_scalar(source.name)}:", *_comment(about, "    ")]
    for note in source.notes:
        lines += _comment(note, "    ")
    lines.append(f"    path: {paths[0] if len(paths) == 1 else '[' + ', '.join(paths) + ']'}")
    if source.text not in (None, "text"):
        lines.append(f"    text: {_scalar(str(source.text))}")
    if source.text is None and source.formats != ("txt",):
        lines.append("    text: text                        # name the column of the text")
    if source.id:
        lines.append(f"    # id: {_scalar(source.id)}                # tells its rows apart; `input.hash: id` would need it")
    if source.domain:
        lines.append(f"    domain: {_scalar(source.domain)}")
    return lines


def _comment(sentence: str, indent: str) -> list[str]:
    text = _one_line(sentence)
    return [f"{indent}# {text if len(text) <= COMMENT_WIDTH else text[: COMMENT_WIDTH - 1] + '…'}"]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _scalar(text: str) -> str:
    """A text as YAML."""
    plain = set(text) <= PLAIN and text.lower() not in WORDS and text[0] not in "-*" and not text.replace(".", "").isdigit()
    return text if plain else json.dumps(text, ensure_ascii=False)


def _relative(path: str, beside: Path) -> str:
    if "://" in path:
        return path
    below = os.path.relpath(path, beside)
    return path if below.startswith("../..") else below


def _lies_in(place: Path, path: str) -> bool:
    """Whether a folder lies in what a path names."""
    if "://" in path:
        return False
    whole = (Path(path).parent if any(c in path for c in "*?[") else Path(path)).resolve()
    return whole == place or whole in place.parents
