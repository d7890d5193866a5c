"""Mode Monitor: one run, live; it only reads, and asks the trainer through control/."""
