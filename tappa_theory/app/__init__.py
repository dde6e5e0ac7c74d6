"""The command line umbrella, the report, figure style, progress and safe file writing."""
