"""`python -m sonant` is the `sonant` command."""

from sonant.cli.main import run

if __name__ == "__main__":
    run()
