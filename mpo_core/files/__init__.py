"""Reads the files of users: tables, texts, YAML, plain or compressed, however they are malformed."""
