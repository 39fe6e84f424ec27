"""L0: frozen values that every other layer speaks in. Nothing here does I/O or reads a clock."""
