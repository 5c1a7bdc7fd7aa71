"""The disk: where an event is safe from the moment its call returns until OpenSearch has acknowledged it.

    spool directory/
        <writer>/                    one process's events
            lock                     held while that process lives, or by whoever took over when it was dead
            shipping                 held by whoever ships: the process itself, one that adopted it, or a sidecar
            stream                   the data stream that its events are for
            cursor                   the last acknowledged sequence
            sent                     the last sequence that may have been sent
            refusals                 what OpenSearch refused, and what became of it
            00000000000000000001.seg segments, named by their first sequence
            00000000000000004711.seg
        closed                       what is known of writers whose directories are gone
        import-<stream>.lock         held while records are imported, so that one import runs at a time
        dead-letters/                what OpenSearch refused even in quarantine

Everything is private to the user that runs the application.
"""
