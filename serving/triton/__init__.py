"""Speaking to NVIDIA Triton: the channel, the link to one server, shared memory for pixels."""
