"""The parts of the plan: its types, the decisions, the refusals and the text a person reads."""
