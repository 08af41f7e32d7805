"""The length of a tour: prints {"value": length}, or says what is wrong with the tour and exits with 1.

    python examples/tour/evaluate.py OUTPUTS    # OUTPUTS/examples/tour/tour.txt is what a candidate wrote

Trusted: it takes the cities from its own folder, imports nothing that a candidate can change and repeats no text that
a candidate wrote.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

CITIES = Path(__file__).with_name("cities.csv")
OUTPUT = "examples/tour/tour.txt"
MAX_BYTES = 64 << 10


def read_tour(path: Path, size: int) -> list[int]:
    """The cities in the order of the visit; ValueError unless each of 0 .. size-1 is there once, one a line."""
    if not path.is_file():
        raise ValueError("there is no tour.txt")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"tour.txt is larger than {MAX_BYTES >> 10} KiB")
    numbers = {b"%d" % city: city for city in range(size)}  # looked up: int() would take "1_0", "+1" and " 1" as well
    tour: dict[int, None] = {}
    for line, text in enumerate(data.splitlines(), 1):
        if (city := numbers.get(text)) is None:
            raise ValueError(f"line {line} is not the number of a city, 0 to {size - 1}")
        if city in tour:
            raise ValueError(f"line {line} visits city {city} a second time")
        tour[city] = None
    if len(tour) < size:
        raise ValueError(f"it visits {len(tour)} of {size} cities")
    return list(tour)


def length(cities: list[tuple[float, ...]], tour: list[int]) -> float:
    """The round trip in straight lines; fsum rounds once, so a tour is as long wherever it begins and whichever way it goes."""
    return math.fsum(math.dist(cities[tour[index - 1]], cities[city]) for index, city in enumerate(tour))


def main() -> None:
    """Measure the tour of the folder that is the only argument."""
    cities = [tuple(float(number) for number in row.split(",")) for row in CITIES.read_text().splitlines()[1:]]
    try:
        tour = read_tour(Path(sys.argv[1]) / OUTPUT, len(cities))
    except ValueError as error:
        sys.exit(f"This is not a tour: {error}.")
    print(json.dumps({"value": length(cities, tour)}))


if __name__ == "__main__":
    main()
