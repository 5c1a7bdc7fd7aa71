"""From the spool to OpenSearch: batches, retries, and what becomes of an event that is refused."""
