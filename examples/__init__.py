"""Small real applications that audit."""
