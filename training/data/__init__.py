"""Labelled photos: from any layout to the batches of a training step."""
