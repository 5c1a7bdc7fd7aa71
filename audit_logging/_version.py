"""The version, in one place: the package, the documents and the templates all read it here."""

__version__ = "0.1.0"
