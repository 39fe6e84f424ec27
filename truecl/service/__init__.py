"""L4: one module per daemon; joins core, drivers and host; takes no decisions."""
