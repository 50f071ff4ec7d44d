"""The HTML report of a version."""
