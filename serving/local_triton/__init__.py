"""A Triton of our own on this machine: started, watched, kept in step with a repository, and stopped."""
