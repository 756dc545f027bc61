"""`labelwise report`: what a run learned and which mistakes it makes, as one self-contained HTML page."""
