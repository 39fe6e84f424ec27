"""L5: argparse, text and JSON rendering of what truecl.commands returns."""
