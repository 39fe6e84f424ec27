"""L3: the other host: the same cores in simulated time, network, disks and machines."""
