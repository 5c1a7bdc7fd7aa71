"""Reports: a period of the trail as figures, and as a page for people."""
