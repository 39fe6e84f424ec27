"""Drivers of kind program; see truecl.drivers."""
