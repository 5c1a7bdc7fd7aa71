"""A web shop with an audit trail."""
