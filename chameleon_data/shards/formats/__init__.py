"""Output formats, one module each. `registry` names them and says what each must have; `files` is what they share."""
