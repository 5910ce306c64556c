"""Training: the methods, the frozen reference, the trainer, and the process that runs it.

Import from its modules. `methods`, `launch`, `reference` and `encoding` import torch only where they use it.
"""
