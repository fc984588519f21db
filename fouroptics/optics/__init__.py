"""Pure wave optics: differentiable functions on tensors ``[..., y, x]`` and the plans that speed them up.

No device, no bench and no unit strings live here; lengths are SI floats.
"""
