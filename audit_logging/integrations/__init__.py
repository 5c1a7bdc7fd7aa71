"""What connects the trail with other systems: frameworks, test runners, and the records of others."""
