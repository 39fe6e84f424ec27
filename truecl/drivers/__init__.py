"""L2: hands on the machine. Each kind has parse (tool output), argv (values to arguments), driver (up, down, probe)."""
