"""Importing this sets all that was imported before it aside for the collector: the last import of a process that only forks.

Its runs then neither look through a million objects that stay anyway, a third of a second each time, nor write to the pages
that they share.
"""

import gc

gc.freeze()
