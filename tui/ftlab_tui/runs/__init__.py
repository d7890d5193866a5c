"""Mode Runs: every run in a table; compare, resume, clone, tidy up."""
