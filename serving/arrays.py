"""What a model takes and gives back."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [b, h, w, 3]
Outputs = dict[str, NDArray[np.float32]]  # output name -> [b, ...]
