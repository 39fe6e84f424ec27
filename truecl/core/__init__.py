"""L1: the sans-I/O cores. Each daemon's decisions are one `Core` (see `contract`), run alike by runtime/ and sim/."""
