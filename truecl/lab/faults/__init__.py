"""`lha_lab faults`: a campaign of random faults against the real daemons, watched from outside the cluster.

A round draws one fault (`draw`), does it (`inject`), and waits until the applications run again or somebody says why
not (`round`). All the while, without asking truecl, it is looked at who has a file system, an address, a program
(`watch`) and who answers for an address (`arp`); a client counts what was acknowledged to it.
"""
