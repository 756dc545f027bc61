"""The gateway: photos in by HTTP, tags out; whichever engine runs the model."""

import os

# gRPC writes lines of its own to standard error, which no log format changes: one at each fork, for example. What fails
# there is raised too, and logged. This takes effect before gRPC is imported alone.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
