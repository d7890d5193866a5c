"""Says what is wrong with a machine before training does. Standard library only."""

__version__ = "0.3.0"
