"""The ML backend of Label Studio: predictions from a gateway, and lessons for it from the annotations."""
