"""How events enter: the logger, the tap in a structlog chain, the stdlib handler, and the context they share."""
