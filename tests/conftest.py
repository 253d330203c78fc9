"""Every test process computes with one thread, and Hypothesis draws the same cases every time."""

import os

# before the first import of torch or OpenCV: workers of pytest-xdist share the cores, and a training's last bits depend
# on the number of threads
os.environ |= {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
