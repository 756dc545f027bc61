"""XMP sidecars: a photo's tags as keywords in a file beside it, which photo programs read. Photos are never written."""
