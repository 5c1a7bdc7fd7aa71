"""What must not enter the trail, or must be able to leave it."""
