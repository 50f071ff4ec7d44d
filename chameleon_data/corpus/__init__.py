"""What is read: fragments of files, tokens, the survey, the selection of rows, the sample.

Imports store, plan and recipe.
"""
