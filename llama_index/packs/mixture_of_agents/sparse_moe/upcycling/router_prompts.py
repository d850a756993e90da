"""Short texts of many kinds, for a router that should know them apart from its first token.

Questions, instructions, prose, program code, data, mathematics and other languages, each as different
from the next as what users send. Only data: it knows nothing of models.
"""

from __future__ import annotations

from textwrap import dedent

_QUESTIONS = (
    "Why does bread rise, and what goes wrong when the yeast is old or the water is too hot?",
    "How many people live in Lisbon today, and was it ever larger than it is now?",
    "What is the difference between weather and climate? Explain it to a ten-year-old in three sentences.",
    "Should a small company keep its own servers or rent them? List two reasons for each side.",
    "Who decides where a new railway line is built, and how can the people who live there object?",
    "Can you recommend a quiet place for a holiday in October, somewhere warm but not crowded?",
)

_INSTRUCTIONS = (
    "Rewrite the following sentence so that it sounds polite: Send me the report now, I have waited enough.",
    "Summarise the discussion in five bullet points. Leave out names, and keep every date and every amount.",
    "You are a patient teacher. Correct the pupil's mistakes, and say for each one which rule was broken.",
    "Write a short letter to the landlord about the broken heating. Stay friendly, but name a deadline.",
    "User: My parcel has not arrived.\nAssistant: I am sorry to hear that. Could you tell me the order "
    "number?\nUser: It is 40817, ordered last Monday.\nAssistant:",
)

_PROSE = (
    "The harbour was still dark when the first boats came in. Men in yellow coats threw ropes to the quay, "
    "and gulls walked between the crates as if they had been hired to count the fish.",
    "Her grandmother kept every letter in a biscuit tin, tied with kitchen string, and never spoke of the "
    "man who had written them until the winter in which she began to forget her own name.",
    "The committee met on Thursday and approved the budget for the coming year. Spending on schools rises by "
    "four per cent, while the plan for a new sports hall was put off once more.",
    "Cells break sugar down in several steps. Most of the energy is won in the last of them, in the "
    "mitochondria, where oxygen takes up the electrons and water is formed.",
    "After the war the town was rebuilt in brick, street by street, along the lines of the old map. Only the "
    "market place was made larger, because a fire had taken the houses on its northern side.",
    "The tenant shall return the premises in the condition in which they were received, fair wear and tear "
    "excepted. Claims under this agreement lapse six months after the end of the tenancy.",
    "Heat the oil, add the onions and let them turn golden over a low flame. Stir in the rice, pour in the "
    "broth one ladle at a time, and finish with butter, lemon and a little grated cheese.",
)

_CODE = (
    """\
    def running_mean(values, width):
        total = 0.0
        for index, value in enumerate(values):
            total += value
            if index >= width:
                total -= values[index - width]
            yield total / min(index + 1, width)
    """,
    """\
    class Queue:
        def __init__(self, limit=None):
            self._items = []
            self._limit = limit

        def put(self, item):
            if self._limit is not None and len(self._items) >= self._limit:
                raise OverflowError("queue is full")
            self._items.append(item)
    """,
    """\
    #include <stdio.h>

    int main(void) {
        int counts[26] = {0};
        for (int c = getchar(); c != EOF; c = getchar())
            if (c >= 'a' && c <= 'z') counts[c - 'a']++;
        for (int i = 0; i < 26; i++) printf("%c %d\\n", 'a' + i, counts[i]);
        return 0;
    }
    """,
    """\
    async function load(url) {
      const response = await fetch(url, { headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(`status ${response.status}`);
      return (await response.json()).items.filter((item) => item.visible);
    }
    """,
    """\
    SELECT customer.name, SUM(invoice.amount) AS total
    FROM customer
    LEFT JOIN invoice ON invoice.customer_id = customer.id
    WHERE invoice.paid_at IS NULL
    GROUP BY customer.name
    HAVING SUM(invoice.amount) > 100
    ORDER BY total DESC;
    """,
    """\
    fn longest(words: &[String]) -> Option<&String> {
        words.iter().max_by_key(|word| word.chars().count())
    }

    pub struct Point { pub x: f64, pub y: f64 }
    """,
    """\
    set -e
    for file in logs/*.gz; do
        name=$(basename "$file" .gz)
        gunzip -c "$file" | grep -v DEBUG | sort | uniq -c > "out/$name.txt"
    done
    """,
)

_DATA = (
    '{"id": 1733, "name": "Widget, blue", "price": 12.5, "tags": ["new", "sale"], "stock": {"north": 4, '
    '"south": 0}, "supplier": null, "updated": "2024-03-09T07:45:00Z"}',
    """\
    date,station,temperature,rain
    2021-05-01,Hill Farm,11.3,0.0
    2021-05-02,Hill Farm,9.8,4.2
    2021-05-03,Hill Farm,12.1,0.6
    2021-05-04,Mill Lane,13.7,0.0
    """,
    """\
    | Model | Weight | Range | Price |
    |-------|-------:|------:|------:|
    | A20   | 14 kg  | 60 km | 1,290 |
    | A35   | 17 kg  | 95 km | 1,850 |
    """,
    """\
    <article class="note"><h2>Opening hours</h2><p>Monday to Friday, <b>9 to 17</b></p>
    <a href="/contact?from=note">Write to us</a></article>
    """,
    """\
    server:
      port: 8080
      workers: 4
    logging: {level: info, file: /var/log/service.log}
    """,
)

_MATHEMATICS = (
    "A train leaves at 9:40 and covers 210 km at 84 km/h. It waits 12 minutes on the way. 210 / 84 = 2.5, so "
    "the journey takes 2 hours 30 minutes, and with the wait 2 hours 42 minutes: it arrives at 12:22.",
    "Let n be odd. Then n = 2k + 1 for some integer k, and n^2 = 4k^2 + 4k + 1 = 2(2k^2 + 2k) + 1, which is "
    "odd as well. Hence if n^2 is even, n must be even.",
    "17 + 25 = 42, 42 * 3 = 126, 126 - 58 = 68, 68 / 4 = 17. 3.14159 2.71828 1.41421 0.57722 1.61803",
    "The integral of x e^{-x} from 0 to infinity is 1. Integrate by parts with u = x and dv = e^{-x} dx.",
    "\\begin{equation} \\sigma^2 = \\frac{1}{N} \\sum_{i=1}^{N} (x_i - \\mu)^2 \\end{equation}",
)

_LANGUAGES = (
    "Am Wochenende fahren wir mit dem Zug ans Meer, wenn das Wetter hält. Die Kinder haben schon ihre Eimer "
    "und Schaufeln eingepackt, obwohl es noch drei Tage sind.",
    "Le conseil municipal a décidé de fermer la rue aux voitures pendant l'été. Les commerçants hésitent, "
    "mais les habitants réclament cette mesure depuis longtemps.",
    "La biblioteca abre a las nueve de la mañana y cierra a las ocho. Para llevarse un libro hace falta una "
    "tarjeta, que se pide en la entrada y no cuesta nada.",
    "Dopo la pioggia il sentiero era pieno di fango, ma dalla cima si vedeva tutta la valle fino al lago.",
    "Зимой река замерзает, и дети катаются на коньках до самого вечера. Весной лёд уходит за два дня.",
    "昨日は雨が降っていたので、家で本を読みました。今日は天気がいいから、公園まで歩きます。",
    "我们公司明年要搬到新的办公楼。那里离地铁站很近。中午吃饭也方便。",
    "يفتح السوق أبوابه في الصباح الباكر، ويأتي الناس من القرى القريبة لشراء الخضار والخبز.",
)

DEFAULT_PROMPTS: tuple[str, ...] = tuple(
    dedent(text)
    for text in (*_QUESTIONS, *_INSTRUCTIONS, *_PROSE, *_CODE, *_DATA, *_MATHEMATICS, *_LANGUAGES)
)
"""What a k-means router is fitted to when its maker names no prompts."""
