"""Strings that are told from what they look like."""

HOSTILE_NAMES = ("[/b]", "code[python]", "[red]x[/red]", ":smile:", "[link=file:///x]y")
"""They look like markup of the terminal's library."""
