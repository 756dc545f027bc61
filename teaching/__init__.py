"""Teaches a published tagger labels from a few photos, without torch. Start with `lesson`."""

import labelwise.no_telemetry  # noqa: F401  (before anything imports onnxruntime)
