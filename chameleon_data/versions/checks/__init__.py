"""The checks of `verify`, one idea a file. Each returns sentences, one for every thing that is wrong.

They import what `versions` may import, and the manifest's type; `verify.py` calls them.
"""
