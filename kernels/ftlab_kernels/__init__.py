"""Triton operators, each beside its pure-PyTorch reference. Imports nothing of ftlab."""
