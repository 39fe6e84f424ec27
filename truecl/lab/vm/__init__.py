"""A lab whose nodes run kernels of their own: user-mode Linux, a process of the machine for each."""
