"""A short round trip through the cities of cities.csv, by simulated annealing (Kirkpatrick et al. 1983).

    python examples/tour/solve.py    # writes examples/tour/tour.txt: the cities' numbers in the order of the visit

The work is counted in steps, never in seconds, and the seed is fixed: the same file always finds the same tour.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

STEPS = 500_000  # changes that are looked at; the time of a run grows with it
HOT = 1.0  # tune: 0.1..4 log - temperature at the start: one in e detours of this length is taken
COLD = 0.1  # tune: 0.005..0.5 log - temperature at the end
NEIGHBOURS = 10  # tune: 3..25 - a city is joined with one of this many nearest ones
SEED = 1  # another one is luck, not a better method

HERE = Path(__file__).parent


def anneal(tour: list[int], distance: list[list[float]], near: list[list[int]], rng: random.Random) -> None:
    """Shorten `tour` in place: ever fewer of the changes that make it longer are taken, as the temperature falls."""
    size = len(tour)
    place = [0] * size  # where each city stands in the tour
    for index, city in enumerate(tour):
        place[city] = index
    for step in range(STEPS):
        temperature = HOT * (COLD / HOT) ** (step / STEPS)
        if step % (STEPS // 20) == 0:
            print(f"step {step}: temperature {temperature:.3f}, length {length(tour, distance):.2f}")
        city = int(rng.random() * size)
        first, last = sorted((place[city], place[rng.choice(near[city])]))
        # The ways a-b and c-d become a-c and b-d; what lies between them is then travelled in the other direction.
        a, b, c, d = tour[first], tour[first + 1], tour[last], tour[(last + 1) % size]
        longer = distance[a][c] + distance[b][d] - distance[a][b] - distance[c][d]
        if longer <= 0 or rng.random() < math.exp(-longer / temperature):
            tour[first + 1 : last + 1] = tour[last:first:-1]
            for index in range(first + 1, last + 1):
                place[tour[index]] = index


def length(tour: list[int], distance: list[list[float]]) -> float:
    """The length of the round trip."""
    return sum(distance[tour[index - 1]][city] for index, city in enumerate(tour))


def main() -> None:
    """Read the cities, search, write the tour."""
    rows = (HERE / "cities.csv").read_text().splitlines()[1:]
    cities = [tuple(float(number) for number in row.split(",")) for row in rows]
    distance = [[math.dist(one, other) for other in cities] for one in cities]
    near = [sorted(range(len(cities)), key=row.__getitem__)[1 : NEIGHBOURS + 1] for row in distance]
    tour = list(range(len(cities)))
    anneal(tour, distance, near, random.Random(SEED))
    print(f"the end: length {length(tour, distance):.2f}")
    (HERE / "tour.txt").write_text("".join(f"{city}\n" for city in tour))


if __name__ == "__main__":
    main()
