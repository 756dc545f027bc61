"""Corrections that clients send: stored with what they can be learned from."""
