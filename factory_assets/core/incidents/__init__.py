"""Broken told from drifted: rules that find a broken batch, one room for what each looks at, and what follows from them.

The rules compare with the middle and the extremes of the days before, so that one odd day in the history decides
nothing, and a real storm or holiday is no incident. What they rest on is what real feeds do when nothing is broken. Values
are missing together: a cancelled flight lacks all its outcomes at once, so missing values are judged by combination and not
by column. Magnitudes move by parts and not by powers of ten. Which of two columns is the larger does not turn around. Whole
rows do not come again the next day.
"""
