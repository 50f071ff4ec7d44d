"""Output formats, one module each; `registry` names them."""
