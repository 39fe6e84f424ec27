"""A database on a replicated volume, on nodes with kernels of their own: its application, its client, its watchers."""
