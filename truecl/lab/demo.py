"""`lha_lab demo`: form, start, power failure, fail-over, stop and dissolve, told with the commands' own outputs."""
