"""A checkpoint in, a checked Triton model repository out. Needs the `export` extra."""
