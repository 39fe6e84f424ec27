"""L4: one module per operator command, f(env, request) -> result; reports, never prints."""
