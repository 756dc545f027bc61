"""`labelwise report`: what a run learned, and where it errs, as one HTML page that needs nothing else."""
