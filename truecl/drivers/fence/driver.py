"""Switching a node off through a fence agent, and believing nothing but a status of 'off'."""

from truecl.drivers.contract import Loop, Runner, StepFailed
from truecl.drivers.fence import argv, parse
from truecl.drivers.fence.parse import Power
from truecl.model.actions import FenceOutcome
from truecl.model.config import FenceConfig
from truecl.model.ids import NodeName

_AGAIN = 0.25
"""Seconds between questions for the status, while a device still says 'on' after 'off'."""


class FenceDriver:
    def __init__(self, runner: Runner, loop: Loop) -> None:
        self._runner = runner
        self._loop = loop

    async def off(self, node: NodeName, config: FenceConfig) -> FenceOutcome:
        """Ask for 'off' and, unless `verify` is false, for the status until it says off. Within `config.timeout`.

        Never raises; `off` of the outcome is true only if the node has no power, and `reason` says how that is known or
        why it is not. An 'off' that failed is believed all the same if the status then says off: the device decides.
        """
        deadline = self._loop.now() + config.timeout
        try:
            command = argv.agent(config)
            result = await self._runner.run(command, timeout=config.timeout, stdin=argv.request(config, "off"), cwd="/")
            asked = "" if result.ok else f"'off' failed, {parse.complaint(result, config)}"
            if not config.verify:
                return FenceOutcome(result.ok, asked or f"{config.agent} says it switched {node} off (not verified)")
            return await self._verify(node, config, deadline, asked)
        except StepFailed as failed:
            return FenceOutcome(False, failed.reason)

    async def status(self, config: FenceConfig, timeout: float | None = None) -> tuple[Power, str]:
        """What the device says, and if it says nothing of use, why. Never raises."""
        try:
            result = await self._runner.run(
                argv.agent(config),
                timeout=config.timeout if timeout is None else timeout,
                stdin=argv.request(config, "status"),
            )
        except StepFailed as failed:
            return Power.UNKNOWN, failed.reason
        power = parse.power(result)
        return power, "" if power is not Power.UNKNOWN else parse.complaint(result, config)

    async def _verify(self, node: NodeName, config: FenceConfig, deadline: float, asked: str) -> FenceOutcome:
        seen = ""
        while (rest := deadline - self._loop.now()) > 0:
            power, why = await self.status(config, rest)
            if power is Power.OFF:
                said = f"{config.agent}: {node} is off"
                return FenceOutcome(True, f"{said} (though {asked})" if asked else said)
            if not (seen and why):  # the last question may be cut short by the deadline, and says less than the first
                seen = f"its status is {power}" + (f", {why}" if why else "")
            if asked:
                break
            await self._loop.sleep(min(_AGAIN, max(0.0, deadline - self._loop.now())))
        reasons = "; ".join(reason for reason in (asked, seen or "no time was left to ask for its status") if reason)
        return FenceOutcome(False, f"{config.agent}: {node} is not known to be off: {reasons}")
