"""From labelled rows to fitted and evaluated models: the cut in time, what a row weighs, the search and the fit."""
