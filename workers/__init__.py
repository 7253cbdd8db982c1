"""The processes that run models. What they need set before torch is loaded is set here."""

import os

# Threads that spin while they wait take the core from others; on a busy machine that is 3x slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
