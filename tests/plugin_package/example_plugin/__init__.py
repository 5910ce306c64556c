"""Extensions of mpo-pipeline by another package, one file each."""
