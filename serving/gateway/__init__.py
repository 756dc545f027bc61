"""The gateway: photos in by HTTP, tags out, with any engine."""

import os

# gRPC writes its own lines to standard error, for example at each fork, and no log format applies to them. Its failures
# are also raised, and logged here. The variable must be set before gRPC is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
