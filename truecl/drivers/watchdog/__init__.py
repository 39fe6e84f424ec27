"""The node's hardware watchdog."""
