"""The server side: the one client, what the server can do, and the set-up of the stream."""
