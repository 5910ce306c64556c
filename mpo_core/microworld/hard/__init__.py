"""The hard microworld: a benchmark for methods, with constructed languages, synonyms and free answers."""
