"""What is known of a language: one data file each, identification, scripts, refusal phrases and defects of texts."""
