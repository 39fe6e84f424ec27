"""L5: a whole cluster on one machine."""
