"""What `tappa check` takes where nothing is said; light to import."""

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_TOKENS = 1024
