"""Drivers of kind address; see truecl.drivers."""
