"""The gateway: photos in by HTTP, tags out; whichever engine runs the model."""
