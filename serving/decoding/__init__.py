"""Decoding in processes that can be ended: photos come from strangers, and some would keep a decoder busy for long."""
