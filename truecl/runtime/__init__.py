"""L3: the Twisted host: runs a core, its journal, links and processes."""
