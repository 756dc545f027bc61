"""Lessons over HTTP: `labelwise teach` runs in a process of its own, so that a lesson needs nothing of this one."""
