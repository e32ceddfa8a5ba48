"""Delta itself: the lake, versions that are pinned, stages, the log, object stores and upkeep."""
