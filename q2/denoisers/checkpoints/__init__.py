"""Where weights come from: pipeline folders, Hub ids, and the tensors in their files."""
