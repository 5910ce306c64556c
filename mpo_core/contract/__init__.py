"""The types that all stages share: settings, tables, artifacts, errors, and the base class of each extension point."""
