"""The pictures of the documentation, drawn from the code that they explain wherever it can be run. `docs/draw.py` writes them."""
