"""Speaking to NVIDIA Triton, and to several servers as one."""
