"""Texts of several kinds that no router was fitted to."""

from __future__ import annotations

HELD_OUT: dict[str, tuple[str, ...]] = {
    "prose": (
        "The old clock struck three and nobody in the house was asleep. Anna listened to the "
        "rain, counted the seconds between lightning and thunder, and thought of the ship.",
        "When the circus had left, the field was brown and flat. The boys searched it for coins "
        "and found a brass button, half a ticket, and the print of an elephant's foot, filled "
        "with water.",
        "Most of the valley was forest until the railway came. Within thirty years the slopes "
        "were bare, and every spring the river carried a little more of them away.",
        "He had promised to write once a week, and for a while he did. Then the letters grew "
        "shorter, and one day there was only a postcard with a picture of a bridge.",
    ),
    "code": (
        "def merge(left, right):\n"
        "    result = []\n"
        "    while left and right:\n"
        "        source = left if left[0] <= right[0] else right\n"
        "        result.append(source.pop(0))\n"
        "    return result + left + right\n",
        "for (int row = 0; row < height; row++) {\n"
        "  for (int col = 0; col < width; col++) {\n"
        "    grid[row][col] = row == col ? 1 : 0;\n"
        "  }\n"
        "}\n",
        "import os\n"
        "\n"
        "class Settings:\n"
        "    path = os.environ.get('APP_PATH', '/tmp')\n"
        "\n"
        "    def load(self, name):\n"
        "        with open(os.path.join(self.path, name)) as file:\n"
        "            return file.read().split(',')\n",
        "const total = items\n"
        "  .filter((item) => item.count > 0)\n"
        "  .map((item) => item.price * item.count)\n"
        "  .reduce((sum, value) => sum + value, 0);\n"
        "if (total > limit) { throw new RangeError('too much'); }\n",
    ),
    "german": (
        "Der Bürgermeister eröffnete am Samstag das neue Schwimmbad. Viele Familien kamen, "
        "obwohl es regnete, und die Schlange vor der Kasse reichte bis zur Straße.",
        "In der Nacht hat es gefroren. Der Gärtner deckte die Rosen mit Stroh ab und holte die "
        "Zitronenbäume ins Haus, bevor es hell wurde.",
    ),
    "question": (
        "What should I cook for six guests if one of them eats no meat and another no milk or cheese?",
        "Which planet has the most moons, and why do we keep finding new ones?",
        "How do I remove red wine from a white carpet without making it worse?",
    ),
    "numbers": (
        "12 * 12 = 144, 144 / 9 = 16, 16 + 5 = 21, 21 * 3 = 63. If x + 4 = 11 then x = 7, and 2x - 3 = 11.",
        "year,sales,cost\n"
        "2018,1204.50,980.10\n"
        "2019,1310.00,1001.75\n"
        "2020,870.25,899.00\n"
        "2021,1455.80,1120.30\n",
    ),
}
