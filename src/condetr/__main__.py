"""`python -m condetr`: the `condetr` command where it is not on the path."""

from condetr.cli.main import main

if __name__ == "__main__":
    main()
