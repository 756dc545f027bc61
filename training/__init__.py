"""Labelled photos in, a checkpoint out: data, model, losses and the two-stage loop. Needs the `train` extra."""
