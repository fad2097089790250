"""Fuzzing: bytes that nobody would think of, into everything that reads bytes from outside.

`make fuzz` runs every target under atheris; `tests/fuzz/test_fuzz.py` runs each for a moment and replays the corpus.
`target_*.py` hold what must be true of any input; `mutate.py` makes inputs that get past the first check.
"""
