"""Facts and tests about languages: one data file each, identification, scripts, refusal phrases, flaws of texts."""
