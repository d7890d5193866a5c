"""Widgets that several modes share."""
