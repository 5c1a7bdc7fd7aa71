"""The disk: where an event is safe from the moment its call returns until OpenSearch has acknowledged it.

    spool directory/
        <writer>/                    one process's events; its `lock` is held while that process lives
            lock
            stream                   the data stream that its events are for
            cursor                   the last acknowledged sequence
            00000000000000000001.seg segments, named by their first sequence
            00000000000000004711.seg
        import-<stream>.lock         held while records are imported, so that one import runs at a time
        dead-letters/                what OpenSearch refused even in quarantine

Everything is private to the user that runs the application.
"""
