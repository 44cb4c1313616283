"""A verification as people and machines read it."""
