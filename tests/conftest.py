"""One thread, so that no figure depends on the machine; hypothesis explores at random in ``make slow`` only."""

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
PATIENCE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("house", max_examples=50, derandomize=True, **PATIENCE)  # the same examples every time
settings.register_profile("slow", max_examples=1500, **PATIENCE)
settings.load_profile("house")
