"""Decodes photos in processes that can be killed: photos come from strangers, and some keep a decoder busy for long."""
