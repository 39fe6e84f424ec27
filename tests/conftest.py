"""Fixtures that several test directories share."""
