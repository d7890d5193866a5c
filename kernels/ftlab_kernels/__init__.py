"""Operators for fine-tuning language models, each beside its pure-PyTorch reference."""
