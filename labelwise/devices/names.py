"""The names of the devices, for options as well: this module imports nothing heavy."""

from typing import Literal

AUTO = "auto"
DeviceName = Literal["cpu", "cuda", "tensorrt", "tensorrt-rtx"]
DeviceChoice = Literal["auto", DeviceName]
