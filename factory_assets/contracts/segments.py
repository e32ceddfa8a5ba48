"""The one segment key that every line has."""

# The root of every hierarchy, and the one segment of a line without `segment_by`.
ALL = "all"
