"""The starter: a real small model and a measurable task, for the demo and the tests."""
