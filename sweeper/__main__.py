"""Let `python -m sweeper` do what `sweeper` does."""

from sweeper.cli.main import main

if __name__ == "__main__":
    main()
