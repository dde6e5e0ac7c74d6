"""The experiments, a folder each: `experiment` asks and judges, `figure` draws the result."""
