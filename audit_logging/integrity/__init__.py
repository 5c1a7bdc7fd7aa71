"""The hash chain that makes every change of the past visible."""
