"""Whether two runs are the same: their identities, ledgers and outputs compared, and a verdict."""
