"""Bulk tagging: `labelwise tag`, from any number of photos to one table.

    paths ──sources/──▶ photos ──chunks──▶ chunks ──scorer──▶ rows ──ledger──▶ journal ──output──▶ table
                                                     └──xmp/──▶ sidecars                (output_formats)

`tag_files` is one run from its options (`tag_options`) to its summary. `chunks` runs the chunks on this machine,
`on_ray` on a cluster. The scorer talks to servers, or to an engine of its own, by one contract (client.transport).
"""
