"""Asking one fence device through its agent, and believing nothing but a status."""

from truecl.drivers.contract import Loop, Runner, StepFailed
from truecl.drivers.fence import argv, parse, secrets
from truecl.model.actions import FenceOutcome, Power
from truecl.model.config import FenceConfig
from truecl.model.ids import NodeName

_AGAIN = 0.25
"""Seconds between questions for the status, while a device still says 'on' after 'off'."""


class FenceDriver:
    def __init__(self, runner: Runner, loop: Loop) -> None:
        self._runner = runner
        self._loop = loop

    async def ask(self, node: NodeName, device: FenceConfig, wanted: Power) -> FenceOutcome:
        """Ask for `wanted` and, unless `verify` is false, for the status until it says so. Within `device.timeout`.
        UNKNOWN: ask for the status alone.

        Never raises; `done` is true only if the node has (or has not) power, and `reason` says how that is known or why
        it is not. An 'off' that failed is believed all the same if the status then says off: the device decides. Not
        where 'off' itself ended as only a status may: that agent fails whatever it is asked.
        """
        try:
            asking = _Asking(self._runner, self._loop, node, device)
            if wanted is Power.UNKNOWN:
                power, why = await asking.status(device.timeout)
                return FenceOutcome(power is not Power.UNKNOWN, f"{device.agent}: {why}" if why else "", power)
            return await asking.switch(wanted)
        except StepFailed as failed:
            return FenceOutcome(False, failed.reason)


class _Asking:
    """One question to one device. Raises StepFailed if the agent or a secret is not there."""

    def __init__(self, runner: Runner, loop: Loop, node: NodeName, device: FenceConfig) -> None:
        self._runner, self._loop = runner, loop
        self._node, self._device = node, device
        self._secrets = secrets.read(device.secrets)
        self._hidden = secrets.hidden(device.parameters, self._secrets)
        self._command = argv.agent(device)

    async def status(self, timeout: float) -> tuple[Power, str]:
        """What the device says, and if it says nothing of use, why."""
        request = argv.request(self._device, self._secrets, "status")
        result = await self._runner.run(self._command, timeout=timeout, stdin=request)
        power = parse.power(result)
        return power, "" if power is not Power.UNKNOWN else parse.complaint(result, self._hidden)

    async def switch(self, wanted: Power) -> FenceOutcome:
        device, deadline = self._device, self._loop.now() + self._device.timeout
        request = argv.request(device, self._secrets, wanted)
        result = await self._runner.run(self._command, timeout=device.timeout, stdin=request)
        asked = "" if result.ok else f"'{wanted}' failed, {parse.complaint(result, self._hidden)}"
        if not device.verify:
            said = f"{device.agent} says it switched {self._node} {wanted} (not verified)"
            return FenceOutcome(result.ok, asked or said, wanted if result.ok else Power.UNKNOWN)
        if wanted is Power.OFF and parse.power(result) is Power.OFF:
            return FenceOutcome(False, f"{device.agent} does not work: {asked}, which to a status would mean 'off'")
        return await self._verify(wanted, deadline, asked)

    async def _verify(self, wanted: Power, deadline: float, asked: str) -> FenceOutcome:
        agent, power, seen = self._device.agent, Power.UNKNOWN, ""
        while (rest := deadline - self._loop.now()) > 0:
            power, why = await self.status(rest)
            if power is wanted:
                said = f"{agent}: {self._node} is {wanted}"
                return FenceOutcome(True, f"{said} (though {asked})" if asked else said, power)
            if not (seen and why):  # the last question may be cut short by the deadline, and says less than the first
                seen = f"its status is {power}" + (f", {why}" if why else "")
            if asked:
                break
            await self._loop.sleep(min(_AGAIN, max(0.0, deadline - self._loop.now())))
        reasons = "; ".join(reason for reason in (asked, seen or "no time was left to ask for its status") if reason)
        return FenceOutcome(False, f"{agent}: {self._node} is not known to be {wanted}: {reasons}", power)
