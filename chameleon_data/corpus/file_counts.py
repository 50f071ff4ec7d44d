"""How many files of each source are read and left out, as manifests and messages have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SharedFiles:
    """Files that two sources read."""

    count: int
    first: str
    """URL of one of them."""


@dataclass(frozen=True)
class SourceFiles:
    """What was found at the paths of a source."""

    read: dict[str, int]
    """Format -> files that are read."""
    left_out: dict[str, int]
    """Reason -> files that are not."""
    shared: dict[str, SharedFiles] = field(default_factory=dict)
    """Source named before in the recipe -> files that it reads too."""
    commits: dict[str, str] = field(default_factory=dict)
    """Branch or tag of a dataset on the hub, as `ORG/NAME@main` -> the commit that was read."""


def describe_files(files: Mapping[str, SourceFiles]) -> list[str]:
    """Sentences for each source: which files are left out, of which commit they are, and where they hold different formats."""
    sentences = []
    for name, found in files.items():
        if found.left_out:
            several = len(found.left_out) > 1
            reasons = ", ".join(f"{reason} {count:,}" if several else reason for reason, count in found.left_out.items())
            number = sum(found.left_out.values())
            sentences.append(f"sources.{name}: left out {number:,} {'file' if number == 1 else 'files'}: {reasons}")
        for other, shared in found.shared.items():
            files_are = f"{shared.count:,} {'file' if shared.count == 1 else 'files'} that {other!r} reads too"
            advice = "their documents count in both; leave them out of one source, unless that is meant"
            sentences.append(f"sources.{name}: reads {files_are} ({shared.first}); {advice}")
        for revision, commit in found.commits.items():
            sentences.append(f"sources.{name}: {revision} is read at its commit {commit}")
        if len(found.read) > 1:
            formats = ", ".join(f"{format} {count:,}" for format, count in found.read.items())
            sentences.append(f"sources.{name}: reads files of several formats: {formats}; a pattern names those that are meant")
    return sentences
