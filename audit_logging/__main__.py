"""`python -m audit_logging` is `audit-logging`."""

from audit_logging.cli import main

if __name__ == "__main__":
    main()
