"""One recipe per model of the ladder."""
