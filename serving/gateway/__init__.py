"""The gateway: photos in by HTTP, tags out, with any engine."""

import os

# gRPC reads these variables when it is imported.
#
# It writes its own lines to standard error, and no log format applies to them. Its failures are also raised, and logged
# here.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# It would start threads in each fork of this process. With uvloop, one in fourteen processes that the gateway started
# crashed before its `exec` (grpcio 1.85, https://github.com/grpc/grpc/issues/43055). Nothing uses gRPC in a fork here.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
