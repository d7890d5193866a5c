"""The training engine: one explicit forward and backward per decoder layer, no graph inside."""
