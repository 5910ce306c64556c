"""Spells and draws figures alike wherever they are shown: page, console, note, analyses."""
