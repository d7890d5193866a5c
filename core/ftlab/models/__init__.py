"""Decoder models: what they are (spec, families), how they are loaded, bound and run."""
