"""Drivers of kind filesystem; see truecl.drivers."""
