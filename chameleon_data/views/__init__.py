"""Other ways to look at a version: the report, lake tables, trainers' files.

Imports versions and everything below.
"""
