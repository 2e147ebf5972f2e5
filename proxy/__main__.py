"""`python -m kveil.proxy` is the `kveil` command."""

from kveil.proxy.cli import main

if __name__ == "__main__":
    main()
