"""What versions 4 and 5 of OpenCV call differently."""

from typing import Any

import cv2

SILENT = 0


def set_log_level(level: int) -> int:
    """Let OpenCV log up to a level, from SILENT on; the level that was set before."""
    # OpenCV 5 has moved both functions, and type stubs know one place only.
    there: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # type: ignore
    before: int = there.getLogLevel()
    there.setLogLevel(level)
    return before
