"""What all tests share: few threads, and laws that are quick and repeatable."""

import os

from hypothesis import settings

# Tensors in tests are tiny: more threads only get in one another's way. Set before torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("condetr", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("condetr")
