"""truecl: high availability for applications on Linux. See docs/architecture.md."""

__version__ = "2.0.0a1"
