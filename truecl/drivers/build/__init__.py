"""What lha_buildapp looks at and makes on a node, without a grant."""
