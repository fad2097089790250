"""`callstream` and `python -m service`."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Runs the command line and exits with its code. Ctrl-C is heard while the program is still being loaded, too."""
    try:
        from service.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
