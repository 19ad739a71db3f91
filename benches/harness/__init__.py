"""The parts of `compare` and `check-instructions`."""
