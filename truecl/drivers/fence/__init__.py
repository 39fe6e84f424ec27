"""Drivers of kind fence; see truecl.drivers."""
