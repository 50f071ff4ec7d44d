"""What is wrong with a version, counted by kind, with a few examples of each. Lists of two stretches of shards merge into one."""

from __future__ import annotations

from collections.abc import Iterable

EXAMPLES = 20
"""Sentences that are kept of a kind; of more there is the number."""


class ProblemList:
    """Sentences by the check that made them. Memory: EXAMPLES sentences a check."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """Check -> problems it found."""
        self.examples: dict[str, list[str]] = {}
        """Check -> the first of them."""

    def add(self, check: str, sentences: Iterable[str]) -> None:
        """Take what a check said. A sentence that was said before counts once, as long as it is remembered."""
        examples = self.examples.setdefault(check, [])
        for sentence in sentences:
            if sentence in examples:
                continue
            self.counts[check] = self.counts.get(check, 0) + 1
            if len(examples) < EXAMPLES:
                examples.append(sentence)

    def join(self, later: ProblemList) -> None:
        """Take those of a later stretch."""
        for check, examples in later.examples.items():
            self.add(check, examples)
            self.counts[check] = self.counts.get(check, 0) + later.counts.get(check, 0) - len(examples)

    @property
    def total(self) -> int:
        """All problems, those without a sentence too."""
        return sum(self.counts.values())

    def sentences(self) -> list[str]:
        """The examples of every check, each followed by how many more there are."""
        said = []
        for check, examples in self.examples.items():
            said += examples
            if more := self.counts.get(check, 0) - len(examples):
                said.append(f"{check}: {more:,} more problems like these")
        return said
