"""Bulk tagging: `labelwise tag`, from any number of photos to one table."""
