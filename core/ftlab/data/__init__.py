"""Data: rows in any common shape become a token store and a fixed order of batches."""
