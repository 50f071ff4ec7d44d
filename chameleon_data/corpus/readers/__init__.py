"""Readers of input formats: a file in, blocks of valid documents out, and a reason for every row that cannot be used.

One file for each format, and what they share: `stream` (bytes and lines), `columns` (Arrow columns), `validate` (rows to blocks).
"""
