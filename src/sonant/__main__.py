"""`python -m sonant` is the `sonant` command."""

from sonant.cli import run

if __name__ == "__main__":
    run()
