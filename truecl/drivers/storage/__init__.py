"""Drivers of kind storage; see truecl.drivers."""
