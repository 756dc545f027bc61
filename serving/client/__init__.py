"""The Python client of Triton and of the gateway."""
