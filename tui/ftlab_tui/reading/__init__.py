"""Readers of run directories: they only read, never fail on damage, and cost little per look."""
