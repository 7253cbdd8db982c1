"""What the processes of the chaos suite need, imported and used once by the server that they fork from."""

import app.api.main
import workers.worker
from tests.chaos.site import right_png

__all__ = ["app", "workers"]
right_png("high", 0)
