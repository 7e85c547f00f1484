"""`python -m service.openapi > openapi.json` writes the API's description."""

import json
import sys

from service.app import build_api


def main() -> None:
    """Write the document to standard output."""
    json.dump(build_api().openapi(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
