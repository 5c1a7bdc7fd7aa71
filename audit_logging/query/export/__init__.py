"""Exports: the events of a filter in one file that can be checked."""
