"""Drivers of kind monitor; see truecl.drivers."""
