"""What a model's status tells of its device: which it has, why not a better one, what its pods wait for. Pure.

The facts come with the choice; here they are put into sentences. Nothing is told of a model that has no choice.
"""

from atalaya_operator.device_choice import Choice
from atalaya_spec.problems import one_of
from atalaya_spec.server_versions import CPU

PREFERRED_DEVICE = "PreferredDevice"
"""The condition: whether the model has the device that it names first."""
FIRST_CHOICE, OTHER_CHOICE, DEVICE_AWAITED = "FirstChoice", "OtherChoice", "DeviceAwaited"
SCALER_CAPPED = "ScalerCapped"

Devices = tuple[str, ...]


def preference(choice: Choice, devices: Devices) -> tuple[bool, str, str] | None:
    """Whether the condition holds, its reason and message; None where one device is named."""
    if len(devices) < 2:
        return None
    is_first = choice.device == devices[0]
    if choice.lack:
        return is_first, DEVICE_AWAITED, sentence(choice, devices)
    if is_first:
        return True, FIRST_CHOICE, f"{choice.device} is the first of its devices."
    return False, OTHER_CHOICE, sentence(choice, devices)


def sentence(choice: Choice, devices: Devices) -> str:
    """For whoever reads why a model is as it is; empty where the device has no part in it."""
    if choice.lack:
        return " ".join(filter(None, (f"It waits for {choice.device}: {choice.lack}.", beside(choice))))
    if choice.device == devices[0]:
        return ""
    better = devices[: devices.index(choice.device)]
    back = f" It goes to {choice.returns_to} as soon as that is free." if choice.returns_to else ""
    reason = choice.reason or f"{one_of(better)} could not be had when it was chosen"
    return f"It is on {choice.device}: {reason}.{back}"


def beside(choice: Choice) -> str:
    """That waiting cannot help; empty where it can."""
    return "It never fits beside the revision before it, which serves." if choice.never_fits else ""


def next_step(choice: Choice, devices: Devices) -> str | None:
    """What helps a model whose pods wait for a device."""
    if not choice.lack:
        return None
    another = "name a further one in spec.devices" if CPU not in devices else "ask for fewer replicas"
    if choice.never_fits:
        return f"add a node, {another}, or delete the Deployment of the revision before it, which ends its service"
    return f"free some, add a node, or {another}"


def capped(choice: Choice | None, wanted: int) -> str:
    """That no more replicas can be had; empty when they can."""
    if choice is None or choice.most is None or choice.most >= wanted:
        return ""
    return f"an autoscaler owns the replicas: at most {choice.most} of {wanted}, for no more {choice.device} are free."
