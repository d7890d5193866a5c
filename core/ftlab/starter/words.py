"""The starter task's vocabulary: names, towns, items and quantities, split into two sides.

No word of the held-out side stands in the training side, so a record can only be right by copying
from its sentence. Many names on the training side keep a small model from learning them by heart.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """The vocabulary of one side of the split."""

    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    towns: tuple[str, ...]
    kinds: tuple[str, ...]
    things: tuple[str, ...]
    counts: tuple[int, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TRAIN = Words(
    first_names=_words("""
        Maria Jonas Amara Peter Lucia Omar Ingrid Tom Yuki Clara Daniel Fatima Victor Elena Samuel
        Nora Ivan Grace Hugo Leila Adam Bella Carl Dora Emil Freya George Hana Igor Julia Kofi Laura
        Martin Nadia Otto Paula Quentin Rosa Stefan Tara Uma Vera Walter Ximena Yasmin Zoe Arthur
        Brigid Cyril Dalia Edwin Flora Gustav Holly Isaac Joan Kenji Lydia Miles Noel Olga Pablo
        Ruth Simon Teresa Ugo Viola Wendy Yann Zora Alan Berta Conor Della Erik Faye Gwen Henry
        Irene Jack Karen Lars Molly Nils Opal Paul Rita Sean Tessa Vince Willa Max Ada Ben Cora Dan
    """),
    last_names=_words("""
        Lopez Becker Okafor Novak Rossi Haddad Larsen Walker Tanaka Weber Fischer Rahman Moreau
        Popov Clarke Silva Murphy Costa Adams Berg Chen Diaz Evans Ferrari Gupta Hansen Ito Jensen
        Khan Lind Meyer Nguyen Olsen Petrov Quinn Reyes Schmidt Torres Unger Vargas Wong Young
        Zimmer Ali Brown Castro Dunn Ekman Foster Garcia Hughes Ivers Jones Klein Lewis Moore Nash
        Owens Price Reed Stone Turner Vance White York Abbott Baker Cook Davis Ellis Fox Green Hill
        Jacobs King Lane Mason Neal Page Ross Scott Tate Ward Wells Wright Bauer Conti Duval Falk
    """),
    towns=_words("""
        Lisbon Hamburg Lagos Prague Turin Cairo Bergen Leeds Osaka Vienna Boston Dhaka Lyon Sofia
        Dublin Porto Denver Lima Paris London Berlin Rome Warsaw Zurich Seville Naples Tokyo Delhi
        Perth Sydney Toronto Dallas Miami Austin Chester Oxford York Ghent Bonn Basel Graz Malmo
        Tampere Riga Vilnius Tallinn Minsk Kiev Odessa Varna Split Corfu Malta Tunis Rabat Accra
        Dakar Harare Lusaka Quebec Halifax Bogota Havana Santiago Manila Hanoi Jakarta Seoul Busan
    """),
    kinds=_words("""
        copper green small wooden blue woollen heavy white folding plastic striped round black cheap
        soft red brown pink orange purple thin thick short long wide narrow flat steel iron brass
        cotton linen paper stone clay rubber plain bright dark used spare
    """),
    things=_words("""
        kettles chairs lamps blankets bottles mirrors boxes candles bags clocks plates shirts
        brushes knives tables ropes beds benches bells belts bikes bins books boots bowls brooms
        buckets buttons cables cakes cans carts coats combs curtains desks doors drums fans forks
        frames gloves hammers hooks jackets jars keys locks maps masks mats nails needles pans pens
        pipes pots radios rings rugs saws shelves shoes socks tents tiles tools toys trays wheels
    """),
    counts=tuple(count for count in range(2, 100) if count % 4),
)
HELD_OUT = Words(
    first_names=_words("""
        Anna Marco Sarah Oliver Sofie Karim Helen Diego Mei Robert Alice David Emma Frank Hannah
        James Kate Linda Michael Nancy
    """),
    last_names=_words("""
        Keller Mensah Bianchi Nilsson Parker Suzuki Dubois Ivanov Byrne Santos Smith Taylor Wilson
        Martinez Cooper Morgan Bennett Collins Russell Sanders
    """),
    towns=_words("""
        Madrid Nairobi Krakow Oslo Bristol Kyoto Geneva Chicago Athens Quito Munich Milan Houston
        Atlanta Montreal Mumbai Glasgow Brussels
    """),
    kinds=_words("silver yellow large leather grey glass light square warm golden clean old"),
    things=_words("""
        teapots stools pillows baskets cups hats ladders towels spoons windows chains cameras
        engines flags phones ribbons
    """),
    counts=tuple(count for count in range(2, 100) if count % 4 == 0),
)
