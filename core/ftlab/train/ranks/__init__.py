"""Several processes train one run: each computes a part of every step, one writes the run."""
