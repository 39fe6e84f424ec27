"""L1, sans-I/O: what crosses sockets: the message table, the codec, the session that greets and bounds."""
