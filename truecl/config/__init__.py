"""L1: YAML text to `truecl.model.config` values, and every problem at once, each with file:line."""
