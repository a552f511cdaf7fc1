"""Coverage-guided fuzzing of what reads files: see `__main__`. It is no test; what it found lies in `tests/corpus/`."""
