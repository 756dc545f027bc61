"""XMP sidecars: a photo's tags as keywords in a file beside it, for photo programs. Photos are never changed."""
