"""Measuring a model: fixed batches, fixed order, greedy answers."""
