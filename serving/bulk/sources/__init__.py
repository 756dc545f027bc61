"""Where photos come from: files, folders, globs, lists and archives."""
