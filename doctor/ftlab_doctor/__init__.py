"""Diagnosis of a machine. Standard library only; holds nothing yet."""
