"""What a person can put right."""


class UserError(Exception):
    """What a person can put right: one sentence that names the key, its value and what would be right.

    It is one printable line whatever it quotes: other characters are escaped.
    """

    def __init__(self, sentence: str):
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in sentence))
