"""What a lab's verbs raise. The texts are for the operator and say which command helps."""


class LabError(Exception):
    """A verb was refused or failed."""


class NoLab(LabError):
    """There is no lab of this name."""


class Unavailable(LabError):
    """What only --vm needs cannot be had on this machine."""


class NetworkFailed(LabError):
    """A command of iproute2 failed: its words."""
