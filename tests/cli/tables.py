"""Small CSV files to learn from."""

import csv
import random

FLOWERS = ["length", "width", "colour", "kind"]
HOUSES = ["rooms", "age", "price"]


def write_csv(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def flowers(count, seed=0, missing=0.0):
    """Rows of length, width, colour and kind, which follows from the others; some cells empty."""
    draw = random.Random(seed)

    def row():
        length, width = draw.gauss(0, 1), draw.gauss(5, 2)
        colour = draw.choice(["red", "blue", "white"])
        score = length + (width - 5) / 2 + (colour == "red") + draw.gauss(0, 0.3)
        cells = [round(length, 4), round(width, 4), colour]
        shown = ["" if draw.random() < missing else cell for cell in cells]
        return [*shown, "rose" if score > 0.5 else "aster"]

    return [row() for _ in range(count)]


def houses(count, seed=0):
    """Rows of rooms, age and price, which is in the hundred thousands."""
    draw = random.Random(seed)

    def row():
        rooms, age = draw.randint(1, 9), draw.uniform(0, 90)
        price = 50_000 * rooms - 800 * age + draw.gauss(0, 5_000)
        return [rooms, round(age, 2), round(price, 2)]

    return [row() for _ in range(count)]
