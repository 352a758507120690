"""Names for the arrays that the package takes and gives."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Floats", "Pixels"]

Array = NDArray[Any]
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
