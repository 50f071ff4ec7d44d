"""Readers of input formats. Each yields blocks of text and names every row that it cannot use."""
