"""`lha_lab bench`: how quick and how small truecl is on this machine, measured on real labs and kept as JSON.

Nothing here is a test: a figure is printed beside what it must and should reach, and no run fails for being slow.
"""
