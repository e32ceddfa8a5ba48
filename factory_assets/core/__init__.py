"""Pure verdicts and model code: frames in, reports and decisions out. `now` and every seed are arguments; no I/O."""
